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

// ModelOptions say which model is opened and how it is run.
type ModelOptions struct {
	Bundle *engines.Bundle
	Mode   string
	Engine EngineOptions
	Log    *slog.Logger
}

// Model is a bundle that is ready to inspect.
type Model struct {
	Bundle *engines.Bundle
	Method engines.Method
	// Calibration in use; nil: there is none for the method.
	Calibration *engines.Calibration
	Runtime     engines.Runtime
	Parameters  pipeline.Parameters
	Inspector   *inspection.Inspector

	backend  engines.Backend
	networks engines.Networks
}

// OpenModel makes a bundle ready to inspect. Close frees it.
func OpenModel(ctx context.Context, options ModelOptions) (model *Model, err error) {
	if options.Mode != ModeExact {
		return nil, fmt.Errorf("mode %s: expected %s; this version of gladd has no other", options.Mode, ModeExact)
	}
	backend, err := openBackend(options.Engine, options.Log)
	if err != nil {
		return nil, err
	}
	model = &Model{Bundle: options.Bundle, backend: backend}
	defer func() {
		if err != nil {
			err = errors.Join(err, model.Close())
			model = nil
		}
	}()
	if model.networks, err = backend.Open(ctx, options.Bundle); err != nil {
		return model, err
	}
	model.Runtime = model.networks.Runtime()
	model.Method = engines.Method{
		Backend:   model.Runtime.Backend,
		Precision: model.Runtime.Precision,
		Mode:      options.Mode,
		Plan:      PlanExact,
	}
	model.Parameters = parameters(options.Bundle)
	thresholds, uncalibrated := model.calibrate()
	model.Inspector, err = inspection.New(inspection.Options{
		Models:       model.networks,
		Parameters:   model.Parameters,
		Thresholds:   thresholds,
		Uncalibrated: uncalibrated,
		Log:          options.Log,
	})
	return model, err
}

// Close frees the networks and their runtime. It may be called twice.
func (m *Model) Close() error {
	var err error
	if m.networks != nil {
		err = m.networks.Close()
	}
	return errors.Join(err, m.backend.Close())
}

// calibrate looks for the calibration of the model's method and puts its gate
// threshold into the parameters.
func (m *Model) calibrate() (thresholds *verdict.Thresholds, uncalibrated verdict.Reason) {
	calibration, state := m.Bundle.Calibration(m.Method)
	switch state {
	case engines.Calibrated:
		m.Calibration = calibration
		m.Parameters.Denoise.Threshold = calibration.GateThreshold
		thresholds = &verdict.Thresholds{
			Image:     calibration.ImageThreshold,
			GuardBand: calibration.GuardBand,
			Region:    calibration.RegionThreshold,
		}
	case engines.Unqualified:
		uncalibrated = verdict.Reason{
			Code: verdict.ReasonUnqualified,
			Detail: fmt.Sprintf("the calibrations of bundle %s are for another method than %s %s, mode %s, plan %s",
				m.Bundle.Manifest.Name, m.Method.Backend, m.Method.Precision, m.Method.Mode, m.Method.Plan),
		}
	default:
		uncalibrated = verdict.Reason{
			Code:   verdict.ReasonUncalibrated,
			Detail: fmt.Sprintf("bundle %s has no calibration for this model", m.Bundle.Manifest.Name),
		}
	}
	return thresholds, uncalibrated
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
