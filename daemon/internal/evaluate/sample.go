package evaluate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/engines"
	"gladd/pipeline"
)

// sample is a picture while it is inspected.
type sample struct {
	capture.File
	digest  [sha256.Size]byte
	outcome inspection.Outcome
	health  capture.Health
	peak    float64 // of the anomaly map
	// curve holds the gate scores of all steps.
	curve []pipeline.GateScore
	// anomalyMap is kept only for maps that are not standardised in bundles that
	// ask for it: those that statistics are learned from.
	anomalyMap []float32
}

// distinct reads pictures and drops those that show what another shows: the
// promise is about independent parts.
func distinct(ctx context.Context, options CalibrateOptions, files []capture.File, known []*sample) ([]*sample, error) {
	var samples []*sample
	seen := map[[sha256.Size]byte]bool{}
	for _, each := range known {
		seen[each.digest] = true
	}
	size := options.Models[0].Parameters.Image
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		next := &sample{File: file}
		picture, err := capture.ReadPicture(file.Path, 0)
		if err == nil {
			next.digest = sha256.Sum256(picture.RGB)
			if seen[next.digest] {
				options.Log.Warn("picture shows the same as another and is left out", "picture", file.Path)
				continue
			}
			seen[next.digest] = true
			var prepared []byte
			if prepared, err = pipeline.Prepare(picture.RGB, picture.Width, picture.Height, size.Width, size.Height); err == nil {
				next.health = capture.MeasureHealth(prepared, size.Width, size.Height)
			}
		}
		// What cannot be read is said when it is inspected.
		samples = append(samples, next)
	}
	// An order that has nothing to do with the files': who learns the gate
	// threshold is drawn by it.
	slices.SortFunc(samples, func(a, b *sample) int {
		return cmp.Or(slices.Compare(a.digest[:], b.digest[:]), strings.Compare(a.Path, b.Path))
	})
	return samples, nil
}

// inspectSamples inspects pictures under a gate threshold, their maps
// standardised by statistics of good parts' unless those are empty.
func inspectSamples(ctx context.Context, options CalibrateOptions, samples []*sample, gateThreshold float64, location *pipeline.Location, plan *pipeline.Plan, step func()) error {
	err := each(ctx, options.Models, len(samples), func(model *inspection.Model, i int) error {
		next := samples[i]
		picture, err := capture.ReadPicture(next.Path, 0)
		if err != nil {
			options.Log.Error("picture cannot be read", "error", err)
			return nil // it has no score
		}
		next.outcome = model.Inspector.Inspect(ctx, inspection.Part{Picture: picture, Class: options.class, GateThreshold: &gateThreshold, Location: location, Plan: plan, AnyHealth: true})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !next.outcome.Scored {
			options.Log.Error("inspection failed", "picture", next.Path, "reason", next.outcome.Reason.Code, "error", next.outcome.Reason.Detail)
			return nil
		}
		next.peak = float64(slices.Max(next.outcome.Result.AnomalyMap))
		if model.Bundle.Manifest.Score.Standardise == engines.StandardiseLocation && location.Empty() {
			next.anomalyMap = next.outcome.Result.AnomalyMap
		}
		// What is large and not needed again.
		next.outcome.Prepared, next.outcome.Result.AnomalyMap, next.outcome.Result.Reconstruction, next.outcome.Result.Latent = nil, nil, nil, nil
		return nil
	}, step)
	if ctx.Err() != nil {
		return fmt.Errorf("stopped; nothing was learned: %w", ctx.Err())
	}
	return err
}

func scoredOnly(samples []*sample) []*sample {
	return slices.DeleteFunc(slices.Clone(samples), func(each *sample) bool { return !each.outcome.Scored })
}

// highestGate is the highest gate score of a part; nothing exceeds it.
func (s *sample) highestGate() float64 {
	highest := math.Inf(-1)
	for _, gate := range s.curve {
		highest = max(highest, gate.Score)
	}
	return highest
}

// digestOf identifies a set of pictures: the hex SHA-256 of their digests in
// order.
func digestOf(samples []*sample) string {
	sum := sha256.New()
	for _, each := range samples {
		sum.Write(each.digest[:])
	}
	return hex.EncodeToString(sum.Sum(nil))
}
