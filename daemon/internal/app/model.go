// Package app builds the program's parts and puts them together.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
	"gladd/pipeline"
)

// Engines run the networks of bundles. Bundles of one model share theirs.
type Engines struct {
	backend  engines.Backend
	networks map[string]engines.Networks // by model digest
	log      *slog.Logger
}

// OpenEngines opens the backend. Close frees it and all networks.
func OpenEngines(options EngineOptions, log *slog.Logger) (*Engines, error) {
	backend, err := openBackend(options, log)
	if err != nil {
		return nil, err
	}
	return &Engines{backend: backend, networks: map[string]engines.Networks{}, log: log}, nil
}

// Close frees the networks and their runtime. It may be called twice.
func (e *Engines) Close() error {
	var errs []error
	for _, networks := range e.networks {
		errs = append(errs, networks.Close())
	}
	return errors.Join(append(errs, e.backend.Close())...)
}

// OpenModel makes a bundle ready to inspect in a mode. The model ends with the
// engines.
func (e *Engines) OpenModel(ctx context.Context, bundle *engines.Bundle, mode string) (*inspection.Model, error) {
	if mode != engines.ModeExact && mode != engines.ModeAdaptive {
		return nil, fmt.Errorf("mode: expected %s or %s, found %q", engines.ModeExact, engines.ModeAdaptive, mode)
	}
	networks, open := e.networks[bundle.ModelDigest]
	if !open {
		var err error
		if networks, err = e.backend.Open(ctx, bundle); err != nil {
			return nil, err
		}
		e.networks[bundle.ModelDigest] = networks
	}
	model := &inspection.Model{Bundle: bundle, Runtime: networks.Runtime(), Parameters: parameters(bundle)}
	names := bundle.Manifest.Classes
	if len(names) == 0 {
		names = []string{""}
	}
	model.Method = chooseMethod(bundle, model.Runtime, mode, names)
	var learned []inspection.Learned
	for _, class := range names {
		calibration, state := bundle.Calibration(model.Method, class)
		model.Calibrations = append(model.Calibrations, calibration)
		found, err := learnedBy(model, calibration)
		if err != nil {
			return nil, err
		}
		if calibration == nil {
			found.Uncalibrated = uncalibrated(model, state, class)
		}
		learned = append(learned, found)
	}
	var err error
	model.Inspector, err = inspection.New(inspection.Options{
		Models:     networks,
		Parameters: model.Parameters,
		Learned:    learned,
		Log:        e.log,
	})
	return model, err
}

// chooseMethod takes the shortest plan of a mode that all classes are calibrated
// for. Without one, comparisons are made in order.
func chooseMethod(bundle *engines.Bundle, runtime engines.Runtime, mode string, classes []string) engines.Method {
	method := engines.Method{Backend: runtime.Backend, Precision: runtime.Precision, Mode: mode, Plan: engines.PlanExact}
	if mode == engines.ModeExact {
		return method
	}
	for _, plan := range []string{engines.PlanShortTail, engines.PlanLatestFirst} {
		method.Plan = plan
		missing := func(class string) bool {
			calibration, _ := bundle.Calibration(method, class)
			return calibration == nil
		}
		if !slices.ContainsFunc(classes, missing) {
			return method
		}
	}
	method.Plan = engines.PlanExact
	return method
}

// learnedBy is what a calibration holds for inspections; nothing without one.
func learnedBy(m *inspection.Model, calibration *engines.Calibration) (learned inspection.Learned, err error) {
	if calibration == nil {
		return learned, nil
	}
	thresholds := inspection.Thresholds(calibration)
	learned.Thresholds = &thresholds
	learned.Health = inspection.HealthLimits(calibration)
	learned.GateThreshold = &calibration.GateThreshold
	learned.Plan = inspection.Plan(calibration)
	learned.Location, err = inspection.Location(m.Bundle, calibration)
	return learned, err
}

// uncalibrated says why there are no thresholds for a class.
func uncalibrated(m *inspection.Model, state engines.CalibrationState, class string) verdict.Reason {
	name := m.Bundle.Manifest.Name
	if class != "" {
		name += ", class " + class + ","
	}
	if state == engines.Unqualified {
		return verdict.Reason{
			Code: verdict.ReasonUnqualified,
			Detail: fmt.Sprintf("the calibrations of bundle %s are for another method than %s %s, mode %s, plan %s, score.standardise %s",
				name, m.Method.Backend, m.Method.Precision, m.Method.Mode, m.Method.Plan, m.Bundle.Manifest.Score.Standardise),
		}
	}
	return verdict.Reason{
		Code:   verdict.ReasonUncalibrated,
		Detail: fmt.Sprintf("bundle %s has no calibration for this model", name),
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
