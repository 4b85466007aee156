package pipeline

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Plan says at which steps an inspection compares, in which order, and how many
// steps it takes after a switch at the minimal step. The zero Plan is GLAD as
// its authors compute it. Scores of different plans are not comparable.
type Plan struct {
	// LatestFirst runs down to the last step that GLAD would compare, compares
	// there first, and looks for an earlier crossing only where there is a
	// sign of one. Before its switch a trajectory does not depend on the
	// comparisons, and gate scores mostly rise along it: where the last one
	// does not cross the threshold, no earlier one did.
	LatestFirst bool
	// Probes are the timesteps of earlier steps that are compared together with
	// the last one.
	Probes []int
	// Margin below the threshold. A score within it, where none crosses, is a
	// sign of an earlier crossing too: then every second step is compared.
	Margin float64
	// Tail is the number of steps after a switch at the minimal step, drawn
	// evenly from those of the schedule; nil or more than there are: all.
	Tail *int
}

// lastCompared returns the index of the last step that is compared, and whether
// the trajectory switches there at the latest.
func lastCompared(steps []step, minStep int) (last int, forced bool) {
	for i, step := range steps {
		if step.timestep < minStep {
			return i, true
		}
	}
	return len(steps) - 1, false
}

// probes appends the indices of a plan's probes, in order, to some. timesteps are
// those that can be compared.
func (plan Plan) probes(timesteps, some []int) ([]int, error) {
	switch {
	case !plan.LatestFirst && (len(plan.Probes) > 0 || plan.Margin != 0):
		return nil, errors.New("plan: probes and a margin are for comparisons latest first")
	case !(plan.Margin >= 0) || math.IsInf(plan.Margin, 0):
		return nil, fmt.Errorf("plan: margin: expected a finite number of at least 0, found %v", plan.Margin)
	case plan.Tail != nil && *plan.Tail < 0:
		return nil, fmt.Errorf("plan: tail: expected at least 0 steps, found %d", *plan.Tail)
	}
	indices, last := some, len(timesteps)-1
	for _, timestep := range plan.Probes {
		i := slices.Index(timesteps[:last], timestep)
		if i < 0 {
			return nil, fmt.Errorf("plan: probe: expected a timestep that is compared before %d, found %d", timesteps[last], timestep)
		}
		if slices.Contains(indices, i) {
			return nil, fmt.Errorf("plan: probe %d is there twice", timestep)
		}
		indices = append(indices, i)
	}
	slices.Sort(indices)
	return indices, nil
}

// tail appends the indices of the steps taken after a switch at a step to some.
// Their gaps, the one up to the clean latent included, are as even as the
// schedule allows.
func tail(steps, switched, count int, some []int) []int {
	left := steps - 1 - switched
	count = min(count, left)
	for k := range count {
		some = append(some, switched+int(math.Round(float64((k+1)*(left+1))/float64(count+1))))
	}
	return some
}

// Calls are the calls of [Models] that a part takes besides one each of Encode,
// Reconstruct and Score.
type Calls struct {
	Predictions int
	Comparisons int // of pairs, whatever the batches
}

// Calls returns what a part takes under a plan that never comes near the gate
// threshold, as most good parts do; what crosses it takes as many comparisons
// more as it takes to find where.
func (in *Inspector) Calls(plan Plan) (Calls, error) {
	if _, err := plan.probes(in.comparable, nil); err != nil {
		return Calls{}, err
	}
	if in.parameters.Denoise.Threshold <= 0 {
		return Calls{Predictions: len(in.steps)}, nil
	}
	calls := Calls{Predictions: len(in.steps), Comparisons: in.last + 1}
	if plan.LatestFirst {
		calls.Comparisons = 1 + len(plan.Probes)
	}
	if plan.Tail != nil && in.forced {
		calls.Predictions = in.last + 1 + len(tail(len(in.steps), in.last, *plan.Tail, nil))
	}
	return calls, nil
}

// lookBack searches a trajectory, whose states are all known, for the step at
// which it switches.
type lookBack struct {
	threshold, margin float64
	gate              []float64 // scores of the steps that were compared
	compared          []bool
	compare           func(some []int) error // fills both for some steps
	some              []int                  // with room for all steps
}

// search compares at the last step and at the probes and, where none of them
// crosses but one is close to the threshold, at every second step: a curve that
// crosses stays above for more than a step, as a rule. It returns the index of
// the step of the first crossing, or that of the last step.
func (l *lookBack) search(probes []int) (int, error) {
	last := len(l.gate) - 1
	if err := l.compare(append(append(l.some, probes...), last)); err != nil {
		return 0, err
	}
	found, highest, err := l.firstCrossing()
	if err != nil || highest > l.threshold || highest <= l.threshold-l.margin {
		return found, err
	}
	some := l.some
	for i := last % 2; i < last; i += 2 {
		if !l.compared[i] {
			some = append(some, i)
		}
	}
	if len(some) > 0 {
		if err := l.compare(some); err != nil {
			return 0, err
		}
	}
	found, _, err = l.firstCrossing()
	return found, err
}

// firstCrossing searches backwards from the first of the compared steps that
// crosses the threshold. It returns the index of the first crossing, or that of
// the last step, and the highest score up to the compared step that crosses.
func (l *lookBack) firstCrossing() (found int, highest float64, err error) {
	below := -1
	for i, score := range l.gate {
		if !l.compared[i] {
			continue
		}
		highest = max(highest, score)
		if score > l.threshold {
			found, err = l.bisect(below, i)
			return found, highest, err
		}
		below = i
	}
	return len(l.gate) - 1, highest, nil
}

// bisect finds the step of the first crossing between one that does not cross,
// or -1, and one that does.
func (l *lookBack) bisect(below, above int) (int, error) {
	for above-below > 1 {
		middle := (below + above) / 2
		if err := l.compare(append(l.some, middle)); err != nil {
			return 0, err
		}
		if l.gate[middle] > l.threshold {
			above = middle
		} else {
			below = middle
		}
	}
	return above, nil
}

// Follow tells what a plan makes of a part whose gate scores are known at every
// step down to the last that is compared: the index of the step at which its
// trajectory switches, or that of the last, and the number of comparisons.
func (plan Plan) Follow(curve []GateScore, threshold float64) (switched, comparisons int, err error) {
	if !plan.LatestFirst {
		for i, point := range curve {
			if point.Score > threshold {
				return i, i + 1, nil
			}
		}
		return len(curve) - 1, len(curve), nil
	}
	timesteps := make([]int, len(curve))
	for i, point := range curve {
		timesteps[i] = point.Timestep
	}
	probes, err := plan.probes(timesteps, nil)
	if err != nil {
		return 0, 0, err
	}
	look := lookBack{
		threshold: threshold, margin: plan.Margin,
		gate: make([]float64, len(curve)), compared: make([]bool, len(curve)), some: make([]int, 0, len(curve)),
	}
	look.compare = func(some []int) error {
		for _, i := range some {
			look.gate[i], look.compared[i] = curve[i].Score, true
			comparisons++
		}
		return nil
	}
	switched, err = look.search(probes)
	return switched, comparisons, err
}
