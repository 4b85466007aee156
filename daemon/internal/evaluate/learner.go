package evaluate

import (
	"context"
	"fmt"
	"math"

	"gladd/pipeline"
)

// learner inspects samples on the way to thresholds.
type learner struct {
	options  CalibrateOptions
	adaptive bool
	location *pipeline.Location // what maps are standardised by; empty: nothing
	plan     pipeline.Plan      // that the new entry is for
}

// inspect makes all comparisons, down to the last step, and returns the samples
// that have a score.
func (l *learner) inspect(ctx context.Context, samples []*sample, done *Calibrated) ([]*sample, error) {
	// No gate score exceeds this threshold.
	unreached := 0.0
	if l.adaptive {
		unreached = math.MaxFloat64
	}
	if err := inspectSamples(ctx, l.options, samples, unreached, l.location, &pipeline.Plan{}, l.options.Step); err != nil {
		return nil, err
	}
	scored := scoredOnly(samples)
	for _, each := range scored {
		each.curve = each.outcome.Result.Gate
	}
	done.Unscored += len(samples) - len(scored)
	return scored, nil
}

// again inspects those samples that the gate threshold or the plan makes go
// another way: they are reconstructed otherwise.
func (l *learner) again(ctx context.Context, samples []*sample, gateThreshold float64) error {
	var switching []*sample
	for _, each := range samples {
		if l.adaptive && each.highestGate() > gateThreshold || l.plan.Tail != nil {
			switching = append(switching, each)
		}
	}
	if err := inspectSamples(ctx, l.options, switching, gateThreshold, l.location, &l.plan, func() {}); err != nil {
		return err
	}
	if lost := len(switching) - len(scoredOnly(switching)); lost > 0 {
		return fmt.Errorf("%d pictures gave no score under the gate threshold %.4g, but one without; the messages above say why", lost, gateThreshold)
	}
	return nil
}

// learnLocation learns how the maps of good parts run at each place.
func learnLocation(samples []*sample) (*pipeline.Location, error) {
	var maps pipeline.LocationLearner
	for _, each := range samples {
		maps.Add(each.anomalyMap)
		each.anomalyMap = nil
	}
	return maps.Learn()
}
