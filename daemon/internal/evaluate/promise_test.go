package evaluate

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestPartsNeeded(t *testing.T) {
	for _, test := range []struct {
		promise Promise
		want    int
	}{
		// ln(1-confidence)/ln(1-rate), rounded up.
		{Promise{0.01, 0.95}, 299},
		{Promise{0.05, 0.95}, 59},
		{Promise{0.1, 0.9}, 22},
		{Promise{0.001, 0.99}, 4603},
		{Promise{0.5, 0.5}, 1},
	} {
		needed := test.promise.PartsNeeded()
		if needed != test.want {
			t.Errorf("%s: want %d, found %d", test.promise, test.want, needed)
		}
		if rank := test.promise.Rank(needed); rank != 1 {
			t.Errorf("%s: want the highest of %d, found rank %d", test.promise, needed, rank)
		}
		if rank := test.promise.Rank(needed - 1); rank != 0 {
			t.Errorf("%s: want none of %d, found rank %d", test.promise, needed-1, rank)
		}
	}
	// As SciPy's binom.sf has it.
	for n, want := range map[int]int{472: 1, 473: 2, 100_000: 949} {
		if rank := (Promise{0.01, 0.95}).Rank(n); rank != want {
			t.Errorf("%d parts: want rank %d, found %d", n, want, rank)
		}
	}
}

// The promised rate holds with the promised confidence, whatever the scores'
// distribution: in so many of 10,000 calibrations the share of all good parts
// above the threshold is at most what was promised.
func TestPromiseHolds(t *testing.T) {
	const repetitions = 10_000
	random := rand.New(rand.NewPCG(1, 2))
	distributions := map[string]struct {
		draw  func() float64
		above func(threshold float64) float64
	}{
		"uniform":     {random.Float64, func(t float64) float64 { return 1 - t }},
		"exponential": {random.ExpFloat64, func(t float64) float64 { return math.Exp(-t) }},
		"whole numbers": {
			func() float64 { return math.Floor(random.ExpFloat64() * 4) },
			func(t float64) float64 { return math.Exp(-(t + 1) / 4) },
		},
	}
	for name, distribution := range distributions {
		for _, test := range []struct {
			promise Promise
			parts   int
		}{{Promise{0.01, 0.95}, 299}, {Promise{0.01, 0.95}, 700}, {Promise{0.05, 0.95}, 60}, {Promise{0.1, 0.8}, 200}} {
			scores := make([]float64, test.parts)
			kept, sum := 0, 0.0
			for range repetitions {
				for i := range scores {
					scores[i] = distribution.draw()
				}
				threshold, _ := test.promise.threshold(scores)
				rate := distribution.above(threshold)
				sum += rate
				if rate <= test.promise.FalseReject {
					kept++
				}
			}
			share := float64(kept) / repetitions
			spread := math.Sqrt(test.promise.Confidence * (1 - test.promise.Confidence) / repetitions)
			if share < test.promise.Confidence-4*spread {
				t.Errorf("%s, %d parts: %s was kept in %.4f of the calibrations", name, test.parts, test.promise, share)
			}
			t.Logf("%-13s %4d parts, %s: kept in %.2f %%, mean rate %.3f %%", name, test.parts, test.promise, 100*share, 100*sum/repetitions)
			// Not by thresholds that reject nothing.
			if name == "uniform" && (share > 0.999 || sum/repetitions < test.promise.FalseReject/5) {
				t.Errorf("%s, %d parts: %s was kept in %.4f of the calibrations, with a mean rate of %.5f", name, test.parts, test.promise, share, sum/repetitions)
			}
		}
	}
}
