package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"gladd/configs"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
)

// openRecipe opens a recipe's model and shows that it can inspect.
func openRecipe(ctx context.Context, opened *Engines, name string, recipe configs.Recipe, software string) (station.Model, error) {
	bundle, err := engines.Load(recipe.Bundle)
	if err != nil {
		return station.Model{}, err
	}
	class, err := bundle.Manifest.Class(recipe.Class)
	if err != nil {
		return station.Model{}, err
	}
	model, err := opened.OpenModel(ctx, bundle, recipe.Mode, recipe.Plans...)
	if err != nil {
		return station.Model{}, err
	}
	if err := model.CheckSelf(ctx, class); err != nil {
		return station.Model{}, fmt.Errorf("self-test of recipe %s: %w", name, err)
	}
	ready := station.Model{
		Inspector: model.Inspector,
		Class:     class,
		Recipe:    verdict.Recipe{Name: name, Version: recipe.Version},
		Bundle: verdict.Bundle{
			Name:    bundle.Manifest.Name,
			Version: bundle.Manifest.Version,
			Digest:  bundle.ModelDigest,
		},
		Method: verdict.Method{
			Software: software,
			Backend:  model.Method.Backend,
			Mode:     model.Method.Mode,
			Plan:     model.Method.Plan,
		},
	}
	if calibration := model.Calibrations[class]; calibration != nil {
		ready.CalibrationID, ready.ImageThreshold = &calibration.ID, &calibration.ImageThreshold
	}
	ready.Recipe.Digest = recipeDigest(recipe, ready, model.Inspector.Calibrations(class))
	return ready, nil
}

// recipeDigest tells recipes apart that give different verdicts: it is the hex
// SHA-256 of these lines.
func recipeDigest(recipe configs.Recipe, model station.Model, calibrations []string) string {
	lines := []string{
		"gladd.recipe/v1",
		"name " + model.Recipe.Name,
		"version " + recipe.Version,
		"model " + model.Bundle.Digest,
		"class " + recipe.Class,
		"mode " + recipe.Mode,
		"calibration " + strings.Join(calibrations, " "),
	}
	if len(recipe.Plans) > 0 {
		lines = append(lines, "plans "+strings.Join(recipe.Plans, " "))
	}
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n") + "\n"))
	return hex.EncodeToString(sum[:])
}
