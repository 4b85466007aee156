// Package app builds the program's parts and puts them together.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
	"gladd/pipeline"
)

// Engines run the networks of bundles. Bundles of one model share theirs.
type Engines struct {
	backends backends
	log      *slog.Logger
	opening  sync.Mutex // held while networks are opened, one bundle after the other

	mutex    sync.Mutex
	networks map[string]*shared // by model digest
	closed   bool
}

// shared are networks and the number of models that use them.
type shared struct {
	engines.Networks
	users int
}

// OpenEngines opens the backend, or looks which can be used. Close frees it and all
// networks.
func OpenEngines(options EngineOptions, log *slog.Logger) (*Engines, error) {
	made := &Engines{
		backends: backends{options: options, log: log, opened: map[string]opened{}, told: map[string]bool{}},
		networks: map[string]*shared{}, log: log,
	}
	var err error
	if options.Backend != BackendAuto {
		_, err = made.backends.open(options.Backend)
	} else if _, err = made.backends.open(BackendONNXRuntime); err != nil {
		// A box with TensorRT may do without the other.
		if _, withoutTensorRT := made.backends.open(BackendTensorRT); withoutTensorRT == nil {
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(err, made.Close())
	}
	return made, nil
}

// Close frees the networks and their runtimes, after what is being opened. It may
// be called twice.
func (e *Engines) Close() error {
	e.opening.Lock()
	defer e.opening.Unlock()
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.closed = true
	var errs []error
	for _, networks := range e.networks {
		errs = append(errs, networks.Close())
	}
	return errors.Join(append(errs, e.backends.close())...)
}

// Fault says that a GPU hangs or is lost; nil: all that is used works.
func (e *Engines) Fault() error { return e.backends.fault() }

// Networks are those of a bundle that was opened.
func (e *Engines) Networks(bundle *engines.Bundle) engines.Networks {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if networks := e.networks[bundle.ModelDigest]; networks != nil {
		return networks.Networks
	}
	return nil
}

// OpenNetworks makes a bundle's networks ready, without the rest of a model. They
// end with the engines, or when they were released as often as opened.
func (e *Engines) OpenNetworks(ctx context.Context, bundle *engines.Bundle) (engines.Networks, error) {
	e.opening.Lock()
	defer e.opening.Unlock()
	if e.isClosed() {
		return nil, errors.New("the engines are closed")
	}
	if networks := e.use(bundle, nil); networks != nil {
		return networks, nil
	}
	backend, err := e.backends.choose(bundle)
	if err != nil {
		return nil, err
	}
	networks, err := backend.Open(ctx, bundle)
	if err != nil {
		return nil, err
	}
	return e.use(bundle, networks), nil
}

func (e *Engines) isClosed() bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.closed
}

// use counts one more user of a bundle's networks, which may be new ones. Nil:
// there are none.
func (e *Engines) use(bundle *engines.Bundle, opened engines.Networks) engines.Networks {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if opened != nil {
		e.networks[bundle.ModelDigest] = &shared{Networks: opened}
	}
	networks := e.networks[bundle.ModelDigest]
	if networks == nil {
		return nil
	}
	networks.users++
	return networks.Networks
}

// Release ends one use of a bundle's networks; the last frees them. No call may be
// under way in them.
func (e *Engines) Release(bundle *engines.Bundle) {
	e.mutex.Lock()
	networks := e.networks[bundle.ModelDigest]
	if networks == nil {
		e.mutex.Unlock()
		return
	}
	if networks.users--; networks.users > 0 {
		e.mutex.Unlock()
		return
	}
	delete(e.networks, bundle.ModelDigest)
	e.mutex.Unlock()
	if err := networks.Close(); err != nil {
		e.log.Error("networks of a recipe that is not used any more cannot be freed", "bundle", bundle.Manifest.Name, "error", err)
	}
}

// OpenModel makes a bundle ready to inspect in a mode, by some plans, the best
// first; none: those of the mode. The model ends with the engines.
func (e *Engines) OpenModel(ctx context.Context, bundle *engines.Bundle, mode string, plans ...string) (made *inspection.Model, err error) {
	named := len(plans) > 0 && mode == engines.ModeAdaptive
	plans, err = engines.PlansOf(mode, plans)
	if err != nil {
		return nil, err
	}
	networks, err := e.OpenNetworks(ctx, bundle)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			e.Release(bundle)
		}
	}()
	model := &inspection.Model{Bundle: bundle, Mode: mode, Runtime: networks.Runtime(), Parameters: parameters(bundle)}
	options := inspection.Options{Models: networks, Parameters: model.Parameters, Log: e.log}
	methods := qualified(bundle, model.Runtime, plans)
	if !named {
		methods = e.current(bundle, methods)
	}
	for _, plan := range plans {
		if named && !slices.ContainsFunc(methods, func(method engines.Method) bool { return method.Plan == plan }) {
			e.log.Warn("plan without a calibration is left out", "bundle", bundle.Manifest.Name, "plan", plan)
		}
	}
	for i, method := range methods {
		plan := inspection.Qualified{Method: method}
		var calibrations []*engines.Calibration
		for _, class := range classNames(bundle) {
			calibration, state := bundle.Calibration(method, class)
			calibrations = append(calibrations, calibration)
			found, err := learnedBy(bundle, calibration)
			if err != nil {
				return nil, err
			}
			if calibration == nil {
				found.Uncalibrated = uncalibrated(bundle, method, state, class)
			}
			plan.Learned = append(plan.Learned, found)
		}
		if i == 0 {
			model.Method, model.Calibrations = method, calibrations
		}
		options.Plans = append(options.Plans, plan)
	}
	model.Inspector, err = inspection.New(options)
	return model, err
}

// classNames are those of a bundle's classes; one without a name where it has
// none.
func classNames(bundle *engines.Bundle) []string {
	if len(bundle.Manifest.Classes) == 0 {
		return []string{""}
	}
	return bundle.Manifest.Classes
}

// qualified returns the methods of those plans that all classes are calibrated
// for; without any, that of comparisons in order.
func qualified(bundle *engines.Bundle, runtime engines.Runtime, plans []string) (methods []engines.Method) {
	for _, plan := range plans {
		method := engines.MethodOf(runtime, plan)
		missing := func(class string) bool {
			calibration, _ := bundle.Calibration(method, class)
			return calibration == nil
		}
		if !slices.ContainsFunc(classNames(bundle), missing) {
			methods = append(methods, method)
		}
	}
	if len(methods) == 0 {
		methods = append(methods, engines.MethodOf(runtime, engines.PlanExact))
	}
	return methods
}

// current leaves out plans that were not calibrated again when comparisons in
// order were: whoever learns new thresholds wants them to be used, whichever mode
// a recipe has.
func (e *Engines) current(bundle *engines.Bundle, methods []engines.Method) []engines.Method {
	// The later an entry stands in the file, the newer it is.
	age := func(method engines.Method, class string) int {
		calibration, _ := bundle.Calibration(method, class)
		return slices.IndexFunc(bundle.Calibrations, func(each engines.Calibration) bool { return calibration != nil && each.ID == calibration.ID })
	}
	exact := slices.IndexFunc(methods, func(method engines.Method) bool { return method.Plan == engines.PlanExact })
	if exact < 0 {
		return methods
	}
	return slices.DeleteFunc(slices.Clone(methods), func(method engines.Method) bool {
		older := func(class string) bool { return age(method, class) < age(methods[exact], class) }
		if !slices.ContainsFunc(classNames(bundle), older) {
			return false
		}
		e.log.Warn("plan left out: plan exact was calibrated after it; calibrate again with --mode adaptive (naming it in plans would use its old thresholds)",
			"bundle", bundle.Manifest.Name, "plan", method.Plan)
		return true
	})
}

// learnedBy is what a calibration holds for inspections; nothing without one.
func learnedBy(bundle *engines.Bundle, calibration *engines.Calibration) (learned inspection.Learned, err error) {
	if calibration == nil {
		return learned, nil
	}
	thresholds := inspection.Thresholds(calibration)
	learned.CalibrationID, learned.Thresholds = &calibration.ID, &thresholds
	learned.Health = inspection.HealthLimits(calibration)
	learned.GateThreshold = &calibration.GateThreshold
	learned.Plan = inspection.Plan(calibration)
	learned.Location, err = inspection.Location(bundle, calibration)
	return learned, err
}

// uncalibrated says why there are no thresholds for a class.
func uncalibrated(bundle *engines.Bundle, method engines.Method, state engines.CalibrationState, class string) verdict.Reason {
	name := bundle.Manifest.Name
	if class != "" {
		name += ", class " + class + ","
	}
	if state == engines.Unqualified {
		return verdict.Reason{
			Code: verdict.ReasonUnqualified,
			Detail: fmt.Sprintf("the calibrations of bundle %s are for another method than %s %s, mode %s, plan %s, score.standardise %s",
				name, method.Backend, method.Precision, method.Mode, method.Plan, bundle.Manifest.Score.Standardise),
		}
	}
	return verdict.Reason{
		Code:   verdict.ReasonUncalibrated,
		Detail: fmt.Sprintf("bundle %s has no calibration for this model; learn its thresholds: gladd calibrate", name),
	}
}

// parameters translates a manifest to the terms of the pipeline.
func parameters(bundle *engines.Bundle) pipeline.Parameters {
	m := bundle.Manifest
	return pipeline.Parameters{
		Digest: bundle.ModelDigest,
		Image:  pipeline.Image{Width: m.Image.Width, Height: m.Image.Height},
		Latent: pipeline.Latent{
			Channels: m.Latent.Channels,
			Width:    m.Latent.Width,
			Height:   m.Latent.Height,
			Sample:   m.Latent.Encode == engines.EncodeSample,
		},
		Schedule: pipeline.Schedule{
			TrainTimesteps: m.Schedule.TrainTimesteps,
			BetaStart:      m.Schedule.BetaStart,
			BetaEnd:        m.Schedule.BetaEnd,
			StepsOffset:    m.Schedule.StepsOffset,
			SetAlphaToOne:  m.Schedule.SetAlphaToOne,
		},
		Denoise: pipeline.Denoise{
			Step:           m.Denoise.Step,
			NoiseStep:      *m.Denoise.NoiseStep,
			InferenceSteps: m.Denoise.InferenceSteps,
			MinStep:        m.Denoise.MinStep,
			Threshold:      m.Denoise.Threshold,
			GateTopK:       m.Denoise.GateTopK,
		},
		Score: pipeline.Score{
			MapSize:    m.Score.MapSize,
			TopK:       m.Score.TopK,
			ObjectMask: pipeline.ObjectMask(m.Score.ObjectMask),
		},
		Classes: len(m.Classes),
	}
}
