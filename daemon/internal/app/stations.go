package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gladd/capture"
	"gladd/configs"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/verdict"
)

// openStations opens the models and builds the stations. A station without a
// model is there and says so; without any model there is nothing to do.
func (d *daemon) openStations(ctx context.Context) error {
	opened, err := OpenEngines(EngineOptions{
		Backend:            d.config.Engines.Backend,
		Threads:            d.config.Engines.Threads,
		ONNXRuntimeLibrary: d.config.Engines.ONNXRuntimeLibrary,
		TensorRT: TensorRTOptions{
			Library:     d.config.Engines.TensorRTLibrary,
			CUDALibrary: d.options.CUDALibrary,
			CacheDir:    d.config.Engines.CacheDir,
			Progress:    d.notify.building(func(words string) { d.starting.Store(&words) }),
		},
		OnLost: d.gpuLost,
	}, d.log)
	if err != nil {
		return machineFault(err)
	}
	d.engines = opened
	d.recipes = &recipes{engines: opened, turns: d.turns, config: d.config, software: d.options.Software}
	memories := make([]station.Memory, len(d.config.Stations))
	users := map[string]int{}
	for i, each := range d.config.Stations {
		if memories[i], err = d.recall(each); err != nil {
			return FaultError{err}
		}
		users[memories[i].Recipe]++
	}
	type result struct {
		model station.Model
		err   error
	}
	models := map[string]result{}
	working := 0
	var failures []error
	for i, each := range d.config.Stations {
		name := memories[i].Recipe
		recipe, tried := models[name]
		if !tried && name != "" {
			d.starting.Store(new(fmt.Sprintf("recipe %s is opened and tried", name)))
			if recipe.model, recipe.err = d.recipes.open(ctx, name); recipe.err == nil {
				recipe.model = share(recipe.model, users[name])
			}
			if errors.Is(recipe.err, context.Canceled) {
				return recipe.err
			}
			if recipe.err != nil {
				failures = append(failures, fmt.Errorf("recipe %s: %w", name, recipe.err))
			}
			models[name] = recipe
		}
		switch {
		case recipe.err != nil:
			d.log.Error("station has no model and takes no triggers", "station", each.Name, "recipe", name, "error", recipe.err)
		case name == "":
			working++
			d.log.Warn("station has no recipe, as before the last end; it takes no triggers until one is prepared", "station", each.Name)
		case recipe.model.CalibrationID == nil:
			working++
			d.log.Warn("station has no thresholds; every verdict will be Undefined", "station", each.Name, "recipe", name,
				"advice", "gladd calibrate --bundle "+d.config.Recipes[name].Bundle+" --good DIR")
		default:
			working++
		}
		d.stations = append(d.stations, station.New(d.stationOptions(each, memories[i], recipe.model, recipe.err)))
	}
	if working == 0 {
		return machineFault(noModelError{failures})
	}
	return nil
}

// noModelError says that no station has a model. Why of each is in the log, with the
// stations.
type noModelError struct{ failures []error }

func (e noModelError) Error() string {
	return fmt.Sprintf("no station has a model: %d could not be opened; the log above says why", len(e.failures))
}

func (e noModelError) Unwrap() []error { return e.failures }

// source is the origin of the verdicts of a station, or of a part of several
// views.
func (d *daemon) source(name string) string {
	return "/" + d.config.Site + "/" + d.config.Line + "/" + name
}

func (d *daemon) stationOptions(config configs.Station, memory station.Memory, model station.Model, modelError error) station.Options {
	keep := map[string]station.KeepImages{
		configs.KeepAll: station.KeepAll, configs.KeepNotOK: station.KeepNotOK, configs.KeepNone: station.KeepNone,
	}[d.config.Ledger.Images.Keep]
	source := config.Camera.Source
	return station.Options{
		Site:       d.config.Site,
		Line:       d.config.Line,
		Name:       config.Name,
		Model:      model,
		ModelError: modelError,
		Prepare:    d.recipes.open,
		Memory:     memory,
		ByFile:     config.Trigger.Kind == configs.TriggerFolder,
		Continuous: triggersItself(config),
		Open:       d.opener(config),
		Camera:     verdict.Camera{Name: capture.SourceName(source)},
		Simulated:  !capture.IsLive(source),
		Turns:      d.turns,
		Ledger:     d.ledger,
		Images:     d.images,
		Keep:       keep,
		Deadline:   time.Duration(config.Deadline),
		Queue:      config.Queue,
		Attempts:   config.Attempts,
		Part:       d.partOf(config),
		Finished:   d.finished,
		Acquired:   func(taken station.Acquired) { d.acquired(config.Name, taken) },
		Changed:    d.changed,
		Log:        d.log,
	}
}

// triggersItself says that a station needs no command for each part.
func triggersItself(config configs.Station) bool {
	return config.Trigger.Kind == configs.TriggerInterval || config.Trigger.Kind == configs.TriggerFolder
}

// recall is what a station begins with: the configuration, or what commands made
// of it since.
func (d *daemon) recall(config configs.Station) (station.Memory, error) {
	memory, err := station.Recall(d.ledger, d.source(config.Name), config.Recipe)
	if err != nil {
		return memory, err
	}
	if _, known := d.config.Recipes[memory.Recipe]; memory.Recipe != "" && !known {
		d.log.Warn("the recipe that was prepared is configured no more; the configuration's is used", "station", config.Name, "prepared", memory.Recipe, "recipe", config.Recipe)
		memory.Recipe = config.Recipe
		if err := memory.Keep(d.ledger, d.source(config.Name)); err != nil { // or it would come back with its recipe
			return memory, err
		}
	}
	if memory.Recipe != "" && memory.Recipe != config.Recipe {
		d.log.Info("station goes on with the recipe that was prepared by a command", "station", config.Name, "recipe", memory.Recipe, "configured", config.Recipe)
	}
	if memory.Halted {
		d.log.Warn("station stays halted; reset ends it", "station", config.Name)
	} else if memory.Stopped && triggersItself(config) {
		d.log.Warn("station stays stopped; a continuous start ends it", "station", config.Name)
	}
	return memory, nil
}

// opener opens a station's camera. A watched folder is none: its triggers
// bring their frames.
func (d *daemon) opener(config configs.Station) func() (capture.Source, error) {
	if config.Trigger.Kind == configs.TriggerFolder {
		return func() (capture.Source, error) { return capture.NoSource{}, nil }
	}
	return func() (capture.Source, error) { return capture.OpenSource(config.Camera.Source) }
}
