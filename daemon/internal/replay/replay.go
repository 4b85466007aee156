// Package replay inspects recorded parts again and compares: under their own
// bundle, to show that the record can be reproduced, or under another, to see
// what it would have said.
package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
	"gladd/pipeline"
)

// Options of a replay.
type Options struct {
	Results []ledger.Result
	// ImagesDir is the folder of the ledger's pictures.
	ImagesDir string
	// Open returns the model to inspect a record's picture with, and the class
	// of its part.
	Open func(record *verdict.Record) (model *inspection.Model, class int, err error)
	// Done is called with each comparison, in order.
	Done func(Comparison) error
}

// Comparison is a recorded result and what the part gives now. Every key is
// always present.
type Comparison struct {
	ResultID string       `json:"result_id"`
	Source   string       `json:"source"`
	Sequence int64        `json:"sequence"`
	Finished verdict.Time `json:"finished"`
	PartID   *string      `json:"part_id"`
	Recorded Finding      `json:"recorded"`
	Replayed *Finding     `json:"replayed"` // null where there is a problem
	// Difference of the scores; null where one is missing.
	Difference *float64 `json:"score_difference"`
	// Identical says that evaluation, score and switch are the same to the last
	// bit, or the reason of a part without a score.
	Identical bool    `json:"identical"`
	Problem   *string `json:"problem"` // why it could not be replayed, or null
}

// Finding is what an inspection found.
type Finding struct {
	Evaluation     verdict.Evaluation `json:"evaluation"`
	Reason         *verdict.Reason    `json:"reason"`
	Score          *float64           `json:"score"`
	ImageThreshold *float64           `json:"image_threshold"`
	SwitchTimestep *int               `json:"switch_timestep"`
	SwitchReason   *string            `json:"switch_reason"`
	Bundle         verdict.Bundle     `json:"bundle"`
	CalibrationID  *string            `json:"calibration_id"`
	Backend        string             `json:"backend"`
}

// Summary counts comparisons.
type Summary struct{ Parts, Identical, Changed, Problems int }

// Run replays results one after the other. A part that cannot be replayed is a
// comparison with a problem, no error.
func Run(ctx context.Context, options Options) (Summary, error) {
	var summary Summary
	for _, result := range options.Results {
		if err := ctx.Err(); err != nil {
			return summary, fmt.Errorf("stopped after %d of %d parts: %w", summary.Parts, len(options.Results), err)
		}
		comparison := compare(ctx, options, &result)
		if ctx.Err() != nil {
			continue
		}
		summary.Parts++
		switch {
		case comparison.Problem != nil:
			summary.Problems++
		case comparison.Identical:
			summary.Identical++
		}
		if now := comparison.Replayed; now != nil && now.Evaluation != comparison.Recorded.Evaluation {
			summary.Changed++
		}
		if err := options.Done(comparison); err != nil {
			return summary, err
		}
	}
	return summary, ctx.Err()
}

func compare(ctx context.Context, options Options, result *ledger.Result) Comparison {
	record := &result.Record
	comparison := Comparison{
		ResultID: record.ResultID, Source: result.Source, Sequence: record.Sequence, Finished: record.Times.Finished, PartID: record.Part.ID,
		Recorded: Finding{
			Evaluation: record.Evaluation, Reason: record.Reason, Score: record.AnomalyScore, ImageThreshold: record.ImageThreshold,
			Bundle: record.Bundle, CalibrationID: record.CalibrationID, Backend: record.Method.Backend,
		},
	}
	if record.Diagnostics != nil && record.AnomalyScore != nil {
		comparison.Recorded.SwitchTimestep, comparison.Recorded.SwitchReason = &record.Diagnostics.SwitchTimestep, &record.Diagnostics.SwitchReason
	}
	found, err := inspect(ctx, options, result)
	if err != nil {
		problem := err.Error()
		comparison.Problem = &problem
		return comparison
	}
	comparison.Replayed = found
	then, now := comparison.Recorded, *found
	switch {
	case then.Score == nil && now.Score == nil:
		comparison.Identical = then.Evaluation == now.Evaluation && then.Reason != nil && now.Reason != nil && then.Reason.Code == now.Reason.Code
	case then.Score != nil && now.Score != nil:
		difference := *now.Score - *then.Score
		comparison.Difference = &difference
		comparison.Identical = difference == 0 && then.Evaluation == now.Evaluation &&
			*then.SwitchTimestep == *now.SwitchTimestep && *then.SwitchReason == *now.SwitchReason
	}
	return comparison
}

// inspect inspects a record's picture again.
func inspect(ctx context.Context, options Options, result *ledger.Result) (*Finding, error) {
	record := &result.Record
	if record.Kind == verdict.KindPart {
		return nil, fmt.Errorf("a part of several views has no picture; name the results of its views: %s", strings.Join(record.SourceResultIDs, " "))
	}
	if record.Image == nil {
		return nil, errors.New("there was no picture")
	}
	if result.Image == "" {
		return nil, errors.New("its picture was not kept, or was removed since (ledger.images: keep, max_bytes)")
	}
	picture, err := capture.ReadPicture(filepath.Join(options.ImagesDir, result.Image), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("its picture is gone: expected %s", filepath.Join(options.ImagesDir, result.Image))
	}
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(picture.RGB); hex.EncodeToString(sum[:]) != record.Image.SHA256 {
		return nil, fmt.Errorf("its picture is not the one that was inspected: expected SHA-256 %s of the decoded pixels, found %x", record.Image.SHA256, sum)
	}
	model, class, err := options.Open(record)
	if err != nil {
		return nil, err
	}
	calibration, err := calibrationOf(model, class, record)
	if err != nil {
		return nil, err
	}
	gate, location, plan := model.Bundle.Manifest.Denoise.Threshold, &pipeline.Location{}, inspection.Plan(calibration)
	if calibration != nil {
		gate = calibration.GateThreshold
		if location, err = inspection.Location(model.Bundle, calibration); err != nil {
			return nil, err
		}
	}
	// The limits of image health are the calibration's too.
	outcome := model.Inspector.Inspect(ctx, inspection.Part{Picture: picture, Class: class, GateThreshold: &gate, Location: location, Plan: &plan, AnyHealth: true})
	manifest := model.Bundle.Manifest
	found := &Finding{
		Evaluation: outcome.Evaluation, Reason: outcome.Reason,
		Bundle:  verdict.Bundle{Name: manifest.Name, Version: manifest.Version, Digest: model.Bundle.ModelDigest},
		Backend: model.Method.Backend,
	}
	if !outcome.Scored {
		return found, nil
	}
	if limits := inspection.HealthLimits(calibration); limits != nil {
		if err := limits.Check(outcome.Health()); err != nil {
			found.Evaluation, found.Reason = verdict.Undefined, &verdict.Reason{Code: verdict.ReasonImageHealth, Detail: err.Error()}
			found.CalibrationID, found.ImageThreshold = &calibration.ID, &calibration.ImageThreshold
			return found, nil //nolint:nilerr // it is what was found
		}
	}
	found.Score, found.SwitchTimestep, found.SwitchReason = &outcome.Result.Score, &outcome.Result.SwitchTimestep, &outcome.Result.SwitchReason
	if calibration == nil {
		found.Evaluation = verdict.Undefined
		return found, nil
	}
	found.CalibrationID, found.ImageThreshold = &calibration.ID, &calibration.ImageThreshold
	found.Evaluation, found.Reason = verdict.Evaluate(outcome.Result.Score, inspection.Thresholds(calibration))
	return found, nil
}

// calibrationOf is the record's own calibration under its own model, and the one
// in use under another; nil: there is none.
func calibrationOf(model *inspection.Model, class int, record *verdict.Record) (*engines.Calibration, error) {
	if model.Bundle.ModelDigest != record.Bundle.Digest {
		return model.Calibrations[class], nil
	}
	if record.CalibrationID == nil {
		return nil, nil
	}
	for i := range model.Bundle.Calibrations {
		if each := &model.Bundle.Calibrations[i]; each.ID == *record.CalibrationID {
			return each, nil
		}
	}
	return nil, fmt.Errorf("its calibration %s is not in %s any more", *record.CalibrationID, model.Bundle.Dir)
}
