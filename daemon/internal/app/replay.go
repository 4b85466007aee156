package app

import (
	"context"
	"fmt"
	"log/slog"

	"gladd/configs"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
)

// ReplayOptions say with what recorded parts are inspected again.
type ReplayOptions struct {
	Config *configs.Config // nil: there is none
	Bundle string          // for all parts; empty: each one's own
	Class  string          // for all parts; empty: that of its recipe
	Mode   string
	// Engines are not filled from the configuration.
	Engines EngineOptions
	Log     *slog.Logger
}

// ReplayModels are the models that recorded parts are inspected with again.
type ReplayModels struct {
	options ReplayOptions
	engines *Engines
	bundles []*engines.Bundle
	models  map[string]*inspection.Model // by the bundle's folder
}

// OpenReplay loads the bundle, or all that the configuration names.
func OpenReplay(ctx context.Context, options ReplayOptions) (*ReplayModels, error) {
	models := &ReplayModels{options: options, models: map[string]*inspection.Model{}}
	var dirs []string
	switch {
	case options.Bundle != "":
		dirs = append(dirs, options.Bundle)
	case options.Config != nil:
		for _, name := range options.Config.RecipeNames() {
			dirs = append(dirs, options.Config.Recipes[name].Bundle)
		}
	}
	for _, dir := range dirs {
		bundle, err := engines.Load(dir)
		if err != nil {
			return nil, err
		}
		models.bundles = append(models.bundles, bundle)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var err error
	models.engines, err = OpenEngines(options.Engines, options.Log)
	return models, err
}

// Close frees the networks.
func (m *ReplayModels) Close() error { return m.engines.Close() }

// For returns the model to inspect a record's picture with, and its class.
func (m *ReplayModels) For(ctx context.Context, record *verdict.Record) (*inspection.Model, int, error) {
	var bundle *engines.Bundle
	for _, each := range m.bundles {
		if m.options.Bundle != "" || each.ModelDigest == record.Bundle.Digest {
			bundle = each
		}
	}
	if bundle == nil {
		return nil, 0, fmt.Errorf("no recipe of the configuration has its model, %s %s (digest %s); name a folder with --bundle",
			record.Bundle.Name, record.Bundle.Version, record.Bundle.Digest)
	}
	className := m.options.Class
	if className == "" && m.options.Config != nil {
		className = m.options.Config.Recipes[record.Recipe.Name].Class
	}
	class, err := bundle.Manifest.Class(className)
	if err != nil {
		return nil, 0, err
	}
	model, open := m.models[bundle.Dir]
	if !open {
		if model, err = m.engines.OpenModel(ctx, bundle, m.options.Mode); err != nil {
			return nil, 0, err
		}
		m.models[bundle.Dir] = model
	}
	return model, class, nil
}
