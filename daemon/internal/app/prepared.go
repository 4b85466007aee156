package app

import (
	"encoding/json"
	"fmt"

	"gladd/configs"
	"gladd/daemon/internal/verdict"
)

// preparedRecipe is what the ledger keeps of a station over restarts.
type preparedRecipe struct {
	// Configured is the configuration's recipe when the other was prepared: a new
	// configuration goes before what was prepared under an old one.
	Configured string `json:"configured"`
	Recipe     string `json:"recipe"` // empty: none
}

func preparedKey(source string) string { return "prepared " + source }

// wantedRecipe is the recipe that a station begins with: the configuration's, or
// what the MES prepared since. A crash must not change what parts are inspected
// with.
func (d *daemon) wantedRecipe(config configs.Station) (string, error) {
	kept, err := d.ledger.Kept(preparedKey(d.source(config.Name)))
	if err != nil || kept == "" {
		return config.Recipe, err
	}
	var before preparedRecipe
	if err := json.Unmarshal([]byte(kept), &before); err != nil {
		return "", fmt.Errorf("recipe of station %s in the ledger: %w", config.Name, err)
	}
	_, known := d.config.Recipes[before.Recipe]
	switch {
	case before.Configured != config.Recipe || before.Recipe == config.Recipe:
		return config.Recipe, nil
	case before.Recipe != "" && !known:
		d.log.Warn("the recipe that was prepared is configured no more; the configuration's is used", "station", config.Name, "prepared", before.Recipe, "recipe", config.Recipe)
		return config.Recipe, nil
	}
	d.log.Info("station goes on with the recipe that was prepared by a command", "station", config.Name, "recipe", before.Recipe, "configured", config.Recipe)
	return before.Recipe, nil
}

// keepPrepared notes for the next start which recipe was prepared.
func (d *daemon) keepPrepared(config configs.Station, recipe string) error {
	kept, err := verdict.JSON(preparedRecipe{Configured: config.Recipe, Recipe: recipe})
	if err != nil {
		return err
	}
	return d.ledger.Keep(preparedKey(d.source(config.Name)), string(kept))
}
