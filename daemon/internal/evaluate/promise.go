package evaluate

import (
	"fmt"
	"math"
	"slices"
)

// Promise is what a threshold learned from good parts holds to: at most a rate
// of good parts lies above it, with a confidence.
type Promise struct {
	FalseReject float64 // above 0, below 1
	Confidence  float64 // above 0, below 1
}

func (p Promise) check() error {
	for _, each := range []struct {
		name  string
		value float64
	}{{"false-reject rate", p.FalseReject}, {"confidence", p.Confidence}} {
		if !(each.value > 0 && each.value < 1) {
			return fmt.Errorf("%s: expected a share above 0 and below 1, found %v", each.name, each.value)
		}
	}
	return nil
}

// String is the promise in words.
func (p Promise) String() string {
	return fmt.Sprintf("at most %.4g %% false rejects at %.4g %% confidence", 100*p.FalseReject, 100*p.Confidence)
}

// PartsNeeded is the smallest number of good parts whose highest score keeps
// the promise: 299 for 1% at 95%.
func (p Promise) PartsNeeded() int {
	n := int(math.Ceil(math.Log1p(-p.Confidence) / math.Log1p(-p.FalseReject)))
	for n > 1 && p.kept(n-1, 1) {
		n--
	}
	for !p.kept(n, 1) {
		n++
	}
	return n
}

// Rank is the largest k such that the k-th highest of n scores keeps the
// promise; 0: none does, there are too few.
func (p Promise) Rank(n int) int {
	k := 0
	for k < n && p.kept(n, k+1) {
		k++
	}
	return k
}

// kept says whether the k-th highest of n independent scores keeps the promise.
// The share of the population above it has the distribution Beta(k, n-k+1),
// whatever the scores' (Wilks, "Determination of Sample Sizes for Setting
// Tolerance Limits", 1941), so that it is at most p with the probability that
// at least k of n draws fall into a share of p. Equal scores only make fewer
// rejects, for a part is rejected strictly above the threshold.
func (p Promise) kept(n, k int) bool {
	fewer := 0.0 // the probability of fewer than k
	for i := range k {
		fewer += math.Exp(logChoose(n, i) + float64(i)*math.Log(p.FalseReject) + float64(n-i)*math.Log1p(-p.FalseReject))
	}
	return 1-fewer >= p.Confidence
}

func logChoose(n, k int) float64 {
	gamma := func(x int) float64 { value, _ := math.Lgamma(float64(x)); return value }
	return gamma(n+1) - gamma(k+1) - gamma(n-k+1)
}

// threshold is the lowest of the scores that keeps the promise.
func (p Promise) threshold(scores []float64) (threshold float64, rank int) {
	rank = p.Rank(len(scores))
	sorted := slices.Sorted(slices.Values(scores))
	return sorted[len(sorted)-rank], rank
}
