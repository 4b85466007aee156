package evaluate

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gladd/engines"
	"gladd/pipeline"
)

// planCandidates are the plans latest first that calibration tries, from the
// surest, which compares at every step, to the quickest: fewer steps are probed,
// and a smaller margin counts as a sign of an earlier crossing.
func planCandidates(timesteps []int, gateThreshold float64) []pipeline.Plan {
	last := len(timesteps) - 1
	probes := func(gap int) (probes []int) {
		for i := last - gap; i >= 0; i -= gap {
			probes = append(probes, timesteps[i])
		}
		return probes
	}
	candidates := []pipeline.Plan{{LatestFirst: true, Probes: probes(1)}}
	const wide = 0.1 // of the gate threshold
	for gap := 2; gap <= last; gap *= 2 {
		candidate := pipeline.Plan{LatestFirst: true, Probes: probes(gap)}
		if gap > 2 { // every second step is compared already
			candidate.Margin = wide * gateThreshold
		}
		candidates = append(candidates, candidate)
	}
	// A margin costs the parts within it half of the comparisons, a probe every
	// part one.
	for _, margin := range []float64{wide, 0.05, 0.025, 0.01, 0} {
		candidates = append(candidates, pipeline.Plan{LatestFirst: true, Margin: margin * gateThreshold})
	}
	return candidates
}

// followed is what a plan makes of some parts.
type followed struct {
	otherSwitches int     // parts that switch elsewhere than under comparisons in order
	comparisons   float64 // of a part, in the mean
}

func follow(plan pipeline.Plan, samples []*sample, gateThreshold float64) (found followed, err error) {
	for _, each := range samples {
		want, _, err := pipeline.Plan{}.Follow(each.curve, gateThreshold)
		if err != nil {
			return found, err
		}
		switched, comparisons, err := plan.Follow(each.curve, gateThreshold)
		if err != nil {
			return found, err
		}
		// The last step may be a switch by the threshold or at the minimal step:
		// it is compared under every plan.
		if switched != want {
			found.otherSwitches++
		}
		found.comparisons += float64(comparisons) / float64(len(samples))
	}
	return found, nil
}

// choosePlans chooses the plans of mode adaptive, the slowest first: their
// comparisons by the gate scores of all good parts, the tail of the second by
// the learning parts and known bad ones. Without a tail that serves there is
// one plan.
func (l *learner) choosePlans(ctx context.Context, gateThreshold float64, learning, judged, bad []*sample, promise Promise) ([]*engines.PlanSettings, error) {
	plan, agreement, err := quickestPlan(slices.Concat(learning, judged), gateThreshold, promise)
	if err != nil {
		return nil, err
	}
	if len(bad) > 0 {
		found, err := follow(plan, bad, gateThreshold)
		if err != nil {
			return nil, err
		}
		agreement.Bad, agreement.OtherSwitchesOfBad = len(bad), found.otherSwitches
	}
	whole := &engines.PlanSettings{Probes: plan.Probes, Margin: plan.Margin, Agreement: agreement}
	shorter := *whole
	if shorter.Tail, err = l.chooseTail(ctx, plan, learning, bad, gateThreshold); err != nil {
		return nil, err
	}
	if shorter.Tail == nil {
		return []*engines.PlanSettings{whole}, nil
	}
	return []*engines.PlanSettings{whole, &shorter}, nil
}

// quickestPlan returns the plan with the fewest comparisons that keeps the
// promise: at most a share of parts switches elsewhere than under comparisons in
// order. The candidates are tested in an order that is fixed beforehand, and the
// first that fails ends it: so the promise holds for all that passed at once,
// without a correction for their number (Maurer et al., "Multiple comparisons in
// drug clinical trials and preclinical assays: a-priori ordered hypotheses", 1995).
func quickestPlan(good []*sample, gateThreshold float64, promise Promise) (plan pipeline.Plan, best *engines.Agreement, err error) {
	timesteps := make([]int, len(good[0].curve))
	for i, point := range good[0].curve {
		timesteps[i] = point.Timestep
	}
	for _, candidate := range planCandidates(timesteps, gateThreshold) {
		found, err := follow(candidate, good, gateThreshold)
		if err != nil {
			return plan, nil, err
		}
		if !promise.kept(len(good), found.otherSwitches+1) {
			break
		}
		if best == nil || found.comparisons <= best.Comparisons {
			plan, best = candidate, &engines.Agreement{
				Parts: len(good), OtherSwitches: found.otherSwitches, AtMost: promise.FalseReject, Confidence: promise.Confidence, Comparisons: found.comparisons,
			}
		}
	}
	if best == nil {
		return plan, nil, fmt.Errorf("that at most %.4g %% of parts switch elsewhere, at %.4g %% confidence, takes %d good parts; %d are there. Use more, a larger --other-switches, or --mode exact",
			100*promise.FalseReject, 100*promise.Confidence, promise.PartsNeeded(), len(good))
	}
	return plan, best, nil
}

// tailTolerance is how far a shorter tail may move the scores of good parts, as a
// share of their own spread. Below it parts keep their order but for neighbours:
// with 0.15 a tail of 2 steps in 5 cost a bundle of solar cells 0.003 of its image
// AUROC, one of 4 steps costs nothing that can be told (docs/performance.md).
const tailTolerance = 0.05

// escapeTolerance is how far a shorter tail may lower the AUROC of known bad
// parts.
const escapeTolerance = 0.002

// chooseTail returns the fewest steps after a switch at the minimal step that
// leave the scores of the learning parts in their places, and known bad parts as
// far above good ones as they were; nil: all steps are needed.
func (l *learner) chooseTail(ctx context.Context, plan pipeline.Plan, good, bad []*sample, gateThreshold float64) (*int, error) {
	whole, err := l.scoresUnder(ctx, plan, good, bad, gateThreshold)
	if err != nil || whole == nil {
		return nil, err
	}
	var chosen *int
	steps := l.options.Models[0].Parameters.Denoise.InferenceSteps - len(good[0].curve)
	for left := steps - 1; left >= 0; left-- {
		count := left
		plan.Tail = &count
		short, err := l.scoresUnder(ctx, plan, good, bad, gateThreshold)
		if err != nil {
			return nil, err
		}
		if short == nil || !(moved(whole.good, short.good) <= tailTolerance) || short.auroc() < whole.auroc()-escapeTolerance {
			break
		}
		chosen = &count
	}
	return chosen, nil
}

// planScores are the scores of parts under a plan.
type planScores struct{ good, bad []float64 }

// scoresUnder inspects parts under a plan; nil: one of them gave no score.
func (l *learner) scoresUnder(ctx context.Context, plan pipeline.Plan, good, bad []*sample, gateThreshold float64) (*planScores, error) {
	samples := make([]*sample, 0, len(good)+len(bad))
	for _, each := range slices.Concat(good, bad) {
		samples = append(samples, &sample{File: each.File})
	}
	if err := inspectSamples(ctx, l.options, samples, gateThreshold, l.location, &plan, func() {}); err != nil {
		return nil, err
	}
	scores := make([]float64, len(samples))
	for i, each := range samples {
		if !each.outcome.Scored {
			return nil, nil
		}
		scores[i] = each.outcome.Result.Score
	}
	return &planScores{scores[:len(good)], scores[len(good):]}, nil
}

// auroc tells bad parts from good ones; 1 without bad ones.
func (s *planScores) auroc() float64 {
	if len(s.bad) == 0 {
		return 1
	}
	ranking, _ := Rank(slices.Clone(s.bad), slices.Clone(s.good))
	return ranking.AUROC
}

// moved is the standard deviation of the differences of two scores of the same
// parts, as a share of the first one's own.
func moved(before, after []float64) float64 {
	deviation := func(value func(i int) float64) float64 {
		var sum, squares float64
		for i := range before {
			sum += value(i)
		}
		mean := sum / float64(len(before))
		for i := range before {
			squares += (value(i) - mean) * (value(i) - mean)
		}
		return math.Sqrt(squares)
	}
	return deviation(func(i int) float64 { return after[i] - before[i] }) / deviation(func(i int) float64 { return before[i] })
}
