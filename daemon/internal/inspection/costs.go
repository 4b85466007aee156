package inspection

import (
	"math"
	"time"

	"gladd/pipeline"
)

const (
	// newestWeight is the share of the newest inspection in what is known of the
	// costs: after ten inspections two thirds of what was before are forgotten.
	newestWeight = 0.1
	// relaxed is what is left of the costs where a part is refused that had all the
	// time that a part can have: without inspections nothing else would tell that
	// the machine is faster again.
	relaxed = 0.98
	// dearer than the time that it had is a part that was not done in it.
	dearer = 1.05
	// maxDearer is by how much one part can make all others dearer at most: a stall
	// of the machine is not what the next part takes.
	maxDearer = 2
)

// costs are what the stages of an inspection take, in seconds, learned from the
// inspections themselves: the self-test's is the first.
type costs struct {
	known                    bool
	encode, predict, compare float64 // a call; a comparison
	reconstruct, score, rest float64
	off                      float64 // by how much inspections take longer or shorter than expected
}

// learn takes the times of a completed inspection into account.
func (c *costs) learn(result *pipeline.Result, prepare time.Duration) {
	timings := result.Timings
	calls := pipeline.Calls{Predictions: result.Predictions, Comparisons: len(result.Gate)}
	whole := (timings.Total + prepare).Seconds()
	weight := newestWeight
	if !c.known {
		weight = 1
	} else {
		c.off += weight * (math.Abs(whole-c.expected(calls)) - c.off)
	}
	c.known = true
	update := func(stage *float64, took time.Duration, calls int) {
		if calls > 0 {
			*stage += weight * (took.Seconds()/float64(calls) - *stage)
		}
	}
	update(&c.encode, timings.Encode, 1)
	update(&c.predict, timings.PredictNoise, calls.Predictions)
	update(&c.compare, timings.Compare, calls.Comparisons)
	update(&c.reconstruct, timings.Reconstruct, 1)
	update(&c.score, timings.Score, 1)
	update(&c.rest, timings.Total+prepare-timings.Networks(), 1)
}

// expected is how long an inspection with some calls takes, in the mean.
func (c *costs) expected(calls pipeline.Calls) float64 {
	return c.encode + float64(calls.Predictions)*c.predict + float64(calls.Comparisons)*c.compare + c.reconstruct + c.score + c.rest
}

// estimate is a time in which an inspection with some calls is done, as a rule.
func (c *costs) estimate(calls pipeline.Calls) time.Duration {
	return time.Duration((c.expected(calls) + c.off) * float64(time.Second))
}

// overran notes that an inspection with some calls was not done in a time: all is
// at least as much dearer as that takes.
func (c *costs) overran(calls pipeline.Calls, had time.Duration) {
	if estimate := c.estimate(calls); c.known && estimate > 0 && estimate <= had {
		c.scale(min(dearer*float64(had)/float64(estimate), maxDearer))
	}
}

// relax makes all a little cheaper.
func (c *costs) relax() { c.scale(relaxed) }

func (c *costs) scale(factor float64) {
	for _, stage := range []*float64{&c.encode, &c.predict, &c.compare, &c.reconstruct, &c.score, &c.rest, &c.off} {
		*stage *= factor
	}
}
