package pipeline

import (
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
	// sign of an earlier crossing too.
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

// probes returns the indices of a plan's probes, in order.
func (in *Inspector) probes(plan Plan) ([]int, error) {
	switch {
	case !plan.LatestFirst && (len(plan.Probes) > 0 || plan.Margin != 0):
		return nil, fmt.Errorf("plan: probes and a margin are for comparisons latest first")
	case !(plan.Margin >= 0) || math.IsInf(plan.Margin, 0):
		return nil, fmt.Errorf("plan: margin: expected a finite number of at least 0, found %v", plan.Margin)
	case plan.Tail != nil && *plan.Tail < 0:
		return nil, fmt.Errorf("plan: tail: expected at least 0 steps, found %d", *plan.Tail)
	}
	var indices []int
	for _, timestep := range plan.Probes {
		i := slices.IndexFunc(in.steps[:in.last], func(s step) bool { return s.timestep == timestep })
		if i < 0 {
			return nil, fmt.Errorf("plan: probe: expected a timestep that is compared before %d, found %d", in.steps[in.last].timestep, timestep)
		}
		if slices.Contains(indices, i) {
			return nil, fmt.Errorf("plan: probe %d is there twice", timestep)
		}
		indices = append(indices, i)
	}
	slices.Sort(indices)
	return indices, nil
}

// tail returns the indices of the steps taken after a switch at a step. Their
// gaps, the one up to the clean latent included, are as even as the schedule
// allows.
func tail(steps, switched, count int) []int {
	left := steps - 1 - switched
	count = min(count, left)
	indices := make([]int, count)
	for k := range indices {
		indices[k] = switched + int(math.Round(float64((k+1)*(left+1))/float64(count+1)))
	}
	return indices
}
