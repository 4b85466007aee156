// Package app builds the program's parts and puts them together.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
	"gladd/pipeline"
)

// ModeExact computes GLAD as its authors do.
const ModeExact = "exact"

// PlanExact is the order of comparisons of [ModeExact].
const PlanExact = "exact"

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
	if mode != ModeExact {
		return nil, fmt.Errorf("mode %s: expected %s; this version of gladd has no other", mode, ModeExact)
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
	model.Method = engines.Method{
		Backend:   model.Runtime.Backend,
		Precision: model.Runtime.Precision,
		Mode:      mode,
		Plan:      PlanExact,
	}
	thresholds, uncalibrated, err := calibrate(model)
	if err != nil {
		return nil, err
	}
	model.Health = inspection.HealthLimits(model.Calibration)
	model.Inspector, err = inspection.New(inspection.Options{
		Models:       networks,
		Parameters:   model.Parameters,
		Thresholds:   thresholds,
		Uncalibrated: uncalibrated,
		Health:       model.Health,
		Log:          e.log,
	})
	return model, err
}

// calibrate looks for the calibration of the model's method and puts its gate
// threshold and its statistics of good parts' maps into the parameters.
func calibrate(m *inspection.Model) (thresholds *verdict.Thresholds, uncalibrated verdict.Reason, err error) {
	calibration, state := m.Bundle.Calibration(m.Method)
	switch state {
	case engines.Calibrated:
		m.Calibration = calibration
		m.Parameters.Denoise.Threshold = calibration.GateThreshold
		if calibration.Location != nil {
			location := &pipeline.Location{}
			if location.Mean, location.Std, err = m.Bundle.Location(calibration); err != nil {
				return nil, uncalibrated, err
			}
			m.Parameters.Score.Location = location
		}
		thresholds = &verdict.Thresholds{
			Image:     calibration.ImageThreshold,
			GuardBand: calibration.GuardBand,
			Region:    calibration.RegionThreshold,
		}
	case engines.Unqualified:
		uncalibrated = verdict.Reason{
			Code: verdict.ReasonUnqualified,
			Detail: fmt.Sprintf("the calibrations of bundle %s are for another method than %s %s, mode %s, plan %s, score.standardise %s",
				m.Bundle.Manifest.Name, m.Method.Backend, m.Method.Precision, m.Method.Mode, m.Method.Plan, m.Bundle.Manifest.Score.Standardise),
		}
	default:
		uncalibrated = verdict.Reason{
			Code:   verdict.ReasonUncalibrated,
			Detail: fmt.Sprintf("bundle %s has no calibration for this model", m.Bundle.Manifest.Name),
		}
	}
	return thresholds, uncalibrated, nil
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
