package bench

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"gladd/daemon/internal/evaluate"
)

// Spread is a mean with its 95 % interval by bootstrap.
type Spread struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

const resamples = 2000

// resampled returns the 95 % interval of a figure of some groups of parts, which
// are drawn anew with repetitions.
func resampled(figure func(draws [][]int) float64, sizes ...int) (low, high float64) {
	source := rand.New(rand.NewPCG(1, 2))
	draws, values := make([][]int, len(sizes)), make([]float64, resamples)
	for group, size := range sizes {
		draws[group] = make([]int, size)
	}
	for k := range values {
		for _, draw := range draws {
			for i := range draw {
				draw[i] = source.IntN(len(draw))
			}
		}
		values[k] = figure(draws)
	}
	slices.Sort(values)
	return values[resamples*25/1000], values[resamples*975/1000]
}

func mean(values []float64) float64 {
	var sum float64
	for _, value := range values {
		sum += value
	}
	return sum / float64(len(values))
}

func meanOf(values []float64, draw []int) float64 {
	var sum float64
	for _, i := range draw {
		sum += values[i]
	}
	return sum / float64(len(draw))
}

func spreadOf(values []float64) Spread {
	low, high := resampled(func(draws [][]int) float64 { return meanOf(values, draws[0]) }, len(values))
	return Spread{mean(values), low, high}
}

// quantile of sorted values.
func quantile(sorted []float64, share float64) float64 {
	return sorted[min(int(math.Ceil(share*float64(len(sorted)))), len(sorted))-1]
}

// Beside holds a plan against the first: what it saves, and what it changes.
type Beside struct {
	Plan string `json:"plan"`
	// Time of a good part, as a share of the first plan's on the same parts.
	Time Spread `json:"time"`
	// SlowestToGood is the slowest part's time as a share of the first plan's
	// mean good part.
	SlowestToGood float64 `json:"slowest_to_first_good"`
	// SameSwitch is the share of parts that switch at the same step for the same
	// reason.
	SameSwitch        float64 `json:"same_switch"`
	LargestDifference float64 `json:"largest_score_difference"`
	MeanDifference    float64 `json:"mean_score_difference"`
	// SameVerdict is the share of parts with the same evaluation, each by its
	// own thresholds; nil where one of them has none.
	SameVerdict *float64 `json:"same_verdict"`
	// AUROC of the first and of this one; nil without defective parts.
	FirstAUROC *float64 `json:"first_image_auroc"`
	AUROC      *float64 `json:"image_auroc"`
	// Difference of the two, this one's less the first's; nil without defective
	// parts.
	Difference *Spread `json:"image_auroc_difference"`
}

// compare holds the runs of a plan against those of the first.
func compare(name string, first, other []run) Beside {
	found := Beside{Plan: name}
	var firstGood, otherGood []float64
	var scores [2][2][]float64 // by plan, good and defective
	sameSwitches, sameVerdicts, calibrated := 0, 0, true
	for i, a := range first {
		b := other[i]
		if a.good {
			firstGood, otherGood = append(firstGood, milliseconds(a.took)), append(otherGood, milliseconds(b.took))
		}
		found.SlowestToGood = max(found.SlowestToGood, milliseconds(b.took))
		before, after := a.outcome.Result, b.outcome.Result
		if before.SwitchTimestep == after.SwitchTimestep && before.SwitchReason == after.SwitchReason {
			sameSwitches++
		}
		difference := math.Abs(after.Score - before.Score)
		found.LargestDifference = max(found.LargestDifference, difference)
		found.MeanDifference += difference / float64(len(first))
		kind := 0
		if !a.good {
			kind = 1
		}
		scores[0][kind] = append(scores[0][kind], before.Score)
		scores[1][kind] = append(scores[1][kind], after.Score)
		calibrated = calibrated && a.outcome.ImageThreshold != nil && b.outcome.ImageThreshold != nil
		if a.outcome.Evaluation == b.outcome.Evaluation {
			sameVerdicts++
		}
	}
	low, high := resampled(func(draws [][]int) float64 { return meanOf(otherGood, draws[0]) / meanOf(firstGood, draws[0]) }, len(firstGood))
	found.Time = Spread{mean(otherGood) / mean(firstGood), low, high}
	found.SlowestToGood /= mean(firstGood)
	found.SameSwitch = float64(sameSwitches) / float64(len(first))
	if calibrated {
		share := float64(sameVerdicts) / float64(len(first))
		found.SameVerdict = &share
	}
	if len(scores[0][1]) > 0 {
		found.FirstAUROC, found.AUROC = auroc(scores[0][0], scores[0][1]), auroc(scores[1][0], scores[1][1])
		found.Difference = aurocDifference(scores)
	}
	return found
}

func auroc(good, bad []float64) *float64 {
	ranking, _ := evaluate.Rank(slices.Clone(bad), slices.Clone(good))
	return &ranking.AUROC
}

// aurocDifference is the second plan's less the first's, on the same draws of
// good and of defective parts.
func aurocDifference(scores [2][2][]float64) *Spread {
	drawn := func(values []float64, draw []int) (some []float64) {
		for _, i := range draw {
			some = append(some, values[i])
		}
		return some
	}
	low, high := resampled(func(draws [][]int) float64 {
		var both [2]float64
		for plan := range both {
			both[plan] = *auroc(drawn(scores[plan][0], draws[0]), drawn(scores[plan][1], draws[1]))
		}
		return both[1] - both[0]
	}, len(scores[0][0]), len(scores[0][1]))
	all := *auroc(scores[1][0], scores[1][1]) - *auroc(scores[0][0], scores[0][1])
	return &Spread{all, low, high}
}

// Units are the costs of a good part of the official full-size networks under a
// plan, in steps of their UNet with guidance.
type Units struct {
	Plan  string  `json:"plan"`
	Units float64 `json:"unet_steps"`
	Share float64 `json:"share"` // of the first plan's
}

// What the stages of GLAD's official networks cost at 512 px, in guided steps of
// Stable Diffusion's UNet (1.6 TFLOP), counted from their arithmetic; a part
// takes 25 steps, of which the first 14 are compared.
const (
	unitsEncode, unitsReconstruct, unitsCompare, unitsScore = 0.7, 1.6, 4.8, 1.6

	fullSteps, fullCompared = 25, 14
)

// fullSize scales the plans of a small model to the official one: as many
// comparisons, and the same share of the tail.
func fullSize(plans []Costs) (units []Units) {
	for i, plan := range plans {
		comparisons, tail := float64(fullCompared), float64(fullSteps-fullCompared)
		if plan.Calls.Comparisons < plan.Calls.Steps-plan.Calls.Tail {
			comparisons = min(comparisons, float64(plan.Calls.Comparisons))
		}
		if plan.Calls.Tail > 0 {
			tail *= float64(plan.Calls.Predictions-(plan.Calls.Steps-plan.Calls.Tail)) / float64(plan.Calls.Tail)
		}
		next := Units{Plan: plan.Plan, Units: unitsEncode + fullCompared + tail + comparisons*unitsCompare + unitsReconstruct + unitsScore, Share: 1}
		if i > 0 {
			next.Share = next.Units / units[0].Units
		}
		units = append(units, next)
	}
	return units
}

// processor is the name of the machine's processor, as far as it tells.
func processor() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(content)) {
		key, value, found := strings.Cut(line, ":")
		if found && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
