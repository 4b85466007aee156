package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"

	"gladd/configs"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
)

// recipes opens the models of the configuration's recipes.
type recipes struct {
	engines  *Engines
	turns    *station.Turns
	config   *configs.Config
	software string
}

// open opens a recipe's model and shows that it can inspect. It may be called
// while parts are inspected: only the self-test takes a turn of theirs.
func (r *recipes) open(ctx context.Context, name string) (station.Model, error) {
	recipe, known := r.config.Recipes[name]
	if !known {
		return station.Model{}, fmt.Errorf("%w %q: the configuration has %s", station.ErrUnknownRecipe, name, strings.Join(r.config.RecipeNames(), ", "))
	}
	bundle, err := engines.Load(recipe.Bundle)
	if err != nil {
		return station.Model{}, err
	}
	class, err := bundle.Manifest.Class(recipe.Class)
	if err != nil {
		return station.Model{}, err
	}
	model, err := r.engines.OpenModel(ctx, bundle, recipe.Mode, recipe.Plans...)
	if err != nil {
		return station.Model{}, err
	}
	if err := r.checkSelf(ctx, model, class); err != nil {
		r.engines.Release(bundle)
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
			Software: r.software,
			Backend:  model.Method.Backend,
			Mode:     model.Method.Mode,
			Plan:     model.Method.Plan,
		},
		Release: func() { r.engines.Release(bundle) },
	}
	if calibration := model.Calibrations[class]; calibration != nil {
		ready.CalibrationID, ready.ImageThreshold = &calibration.ID, &calibration.ImageThreshold
	}
	ready.Recipe.Digest = recipeDigest(recipe, ready, model.Inspector.Calibrations(class))
	return ready, nil
}

func (r *recipes) checkSelf(ctx context.Context, model *inspection.Model, class int) error {
	if err := r.turns.Take(ctx); err != nil {
		return err
	}
	defer r.turns.Give()
	return model.CheckSelf(ctx, class)
}

// share lets several stations use one model; the last releases it.
func share(model station.Model, users int) station.Model {
	release := model.Release
	var left atomic.Int64
	left.Store(int64(users))
	model.Release = func() {
		if left.Add(-1) == 0 {
			release()
		}
	}
	return model
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
