package pipeline

import (
	"context"
	"math"
	"slices"
	"time"
)

// trajectory holds the states of a part between noise and clean latent, by the
// index of the step. They are small, and kept: comparisons can wait.
type trajectory struct {
	x, eps   [][]float32 // [C,h,w]; x[i] is what step i starts from, the last one the clean latent
	gateMap  [][]float32 // [h,w]
	gate     []float64
	compared []bool
}

func newTrajectory(steps, last, latent, plane int) trajectory {
	rows := func(count, length int) [][]float32 {
		return slices.Collect(slices.Chunk(make([]float32, count*length), length))
	}
	return trajectory{
		x: rows(steps+1, latent), eps: rows(steps, latent), gateMap: rows(last+1, plane),
		gate: make([]float64, last+1), compared: make([]bool, last+1),
	}
}

// denoise walks the trajectory from noise to the clean latent, the last x.
func (in *Inspector) denoise(ctx context.Context, part Input, result *Result) error {
	clear(in.compared)
	in.start.addNoise(in.x[0], in.z, in.noise)
	in.threshold = in.parameters.Denoise.Threshold
	if part.GateThreshold != nil {
		in.threshold = *part.GateThreshold
	}
	if in.threshold <= 0 {
		return in.walk(ctx, tail(len(in.steps), -1, len(in.steps), in.rest[:0]), result)
	}
	search := in.inOrder
	if part.Plan.LatestFirst {
		search = in.latestFirst
	}
	switched, err := search(ctx, part.Plan.Margin, result)
	if err != nil {
		return err
	}
	return in.goOn(ctx, switched, part.Plan.Tail, result)
}

// inOrder compares step by step, or chunk by chunk, and returns the index of the
// step at which the trajectory switches, or that of the last.
func (in *Inspector) inOrder(ctx context.Context, _ float64, result *Result) (int, error) {
	for first := 0; ; {
		end := min(first+in.chunk, in.last+1)
		if err := in.predictTo(ctx, first, end, result); err != nil {
			return 0, err
		}
		chunk := in.indices[:0]
		for i := first; i < end; i++ {
			chunk = append(chunk, i)
		}
		if err := in.compare(ctx, chunk, result); err != nil {
			return 0, err
		}
		for _, i := range chunk {
			if in.crosses(i) {
				return i, nil
			}
		}
		if end > in.last {
			return in.last, nil
		}
		if err := in.step(end-1, end); err != nil {
			return 0, err
		}
		first = end
	}
}

// latestFirst runs down to the last step that is compared and looks back from
// there. It returns the index of the step at which the trajectory switches, or
// that of the last.
func (in *Inspector) latestFirst(ctx context.Context, margin float64, result *Result) (int, error) {
	if err := in.predictTo(ctx, 0, in.last+1, result); err != nil {
		return 0, err
	}
	look := lookBack{
		threshold: in.threshold, margin: margin, gate: in.gate, compared: in.compared, some: in.indices[:0],
		compare: func(some []int) error { return in.compareInChunks(ctx, some, result) },
	}
	return look.search(in.probed)
}

func (in *Inspector) crosses(i int) bool { return in.gate[i] > in.threshold }

// goOn switches at a step, if it is to be, and walks on from there.
func (in *Inspector) goOn(ctx context.Context, i int, tailSteps *int, result *Result) error {
	level, x0, count := in.steps[i].at, in.x0Gen, len(in.steps)
	level.addNoise(in.xTest, in.z, in.noise)
	level.predictClean(in.x0Test, in.xTest, in.eps[i])
	level.predictClean(in.x0Gen, in.x[i], in.eps[i])
	switch {
	case in.crosses(i):
		result.SwitchReason, result.SwitchTimestep = SwitchThreshold, in.steps[i].timestep
		fuse(x0, in.x0Gen, in.x0Test, in.gateMap[i])
	case in.forced:
		result.SwitchReason, result.SwitchTimestep = SwitchMinStep, in.steps[i].timestep
		x0 = in.x0Test
		if tailSteps != nil {
			count = *tailSteps
		}
	}
	rest := tail(len(in.steps), i, count, in.rest[:0])
	next := in.first(rest)
	in.levelAt(next).addNoise(in.x[next], x0, in.eps[i])
	if err := finite("denoise", in.steps[i].timestep, in.x[next]); err != nil {
		return err
	}
	return in.walk(ctx, rest, result)
}

// first is the index of the first of some steps; that of the clean latent where
// there is none.
func (in *Inspector) first(some []int) int {
	if len(some) == 0 {
		return len(in.steps)
	}
	return some[0]
}

// walk takes plain DDIM steps, from each to the next and from the last to the
// clean latent.
func (in *Inspector) walk(ctx context.Context, some []int, result *Result) error {
	for k, i := range some {
		if err := in.predict(ctx, i, result); err != nil {
			return err
		}
		if err := in.step(i, in.first(some[k+1:])); err != nil {
			return err
		}
	}
	return nil
}

// predictTo predicts the noise of the steps from first to end, that one not
// included, with plain steps between them.
func (in *Inspector) predictTo(ctx context.Context, first, end int, result *Result) error {
	for i := first; i < end; i++ {
		if i > first {
			if err := in.step(i-1, i); err != nil {
				return err
			}
		}
		if err := in.predict(ctx, i, result); err != nil {
			return err
		}
	}
	return nil
}

// predict fills eps of a step.
func (in *Inspector) predict(ctx context.Context, i int, result *Result) error {
	timestep := in.steps[i].timestep
	in.timestepOfCall[0] = timestep
	result.Predictions++
	return call(ctx, "predict noise", timestep, &result.Timings.PredictNoise, in.eps[i], func() error {
		return in.models.PredictNoise(ctx, in.x[i], in.timestepOfCall, in.classOf, in.eps[i])
	})
}

// levelAt is the noise level that a step starts from; that of the clean latent
// behind the last one.
func (in *Inspector) levelAt(i int) noiseLevel {
	if i == len(in.steps) {
		return in.final
	}
	return in.steps[i].at
}

// step takes a plain DDIM step from one index to another.
func (in *Inspector) step(from, to int) error {
	in.steps[from].at.denoise(in.x[to], in.x[from], in.eps[from], in.levelAt(to))
	// Finite predictions can still leave float32's range: a decoder may turn
	// such a latent into an innocent picture.
	return finite("denoise", in.steps[from].timestep, in.x[to])
}

// compareInChunks fills the gate scores and maps of some steps, in as few calls
// as chunks allow.
func (in *Inspector) compareInChunks(ctx context.Context, some []int, result *Result) error {
	for chunk := range slices.Chunk(some, in.chunk) {
		if err := in.compare(ctx, chunk, result); err != nil {
			return err
		}
	}
	return nil
}

// compare fills the gate scores and maps of some steps, in one call.
func (in *Inspector) compare(ctx context.Context, some []int, result *Result) error {
	in.comparing = some
	latent, plane := len(in.z), len(in.gateMap[0])
	test, gen, maps := in.batchTest[:len(some)*latent], in.batchGen[:len(some)*latent], in.batchMaps[:len(some)*plane]
	for k, i := range some {
		level, own := in.steps[i].at, test[k*latent:(k+1)*latent]
		level.addNoise(in.xTest, in.z, in.noise)
		level.predictClean(own, in.xTest, in.eps[i])
		level.predictClean(gen[k*latent:(k+1)*latent], in.x[i], in.eps[i])
	}
	err := call(ctx, "compare", in.steps[some[0]].timestep, &result.Timings.Compare, maps, func() error {
		return in.models.Compare(ctx, test, gen, maps)
	})
	if err != nil {
		return err
	}
	for k, i := range some {
		copy(in.gateMap[i], maps[k*plane:])
		in.gate[i], in.compared[i] = meanTopK(in.gateMap[i], in.highest[:in.parameters.Denoise.GateTopK]), true
		result.Gate = append(result.Gate, GateScore{Timestep: in.steps[i].timestep, Score: in.gate[i]})
	}
	return nil
}

// ChunksByCost measures what comparisons cost one by one and several in a call,
// with latents of the part that was inspected last, and has as many steps
// compared in one call as makes a comparison cheapest (see [Inspector.CompareInChunks]).
// Several in a call must give what each gives by itself, bit for bit: a score
// shall not hang on a measurement. It ends early where it takes longer than it
// may.
func (in *Inspector) ChunksByCost(ctx context.Context, atMost time.Duration) error {
	const worthIt = 0.95 // of the cost one by one: less is the measurement's own spread
	began := time.Now()
	in.CompareInChunks(1)
	alone, cheapest, err := in.compareAlone(ctx, atMost)
	if err != nil || alone == nil {
		return err
	}
	cheapest *= worthIt
	// Chunks may be of any size up to the largest: the last of a row, say.
	for count := 2; count <= in.last+1; count++ {
		fastest := math.Inf(1)
		for range 2 {
			if time.Since(began) > atMost {
				return nil
			}
			maps, took, err := in.compareAgain(ctx, 0, count)
			if err != nil {
				return ctx.Err() // too many for the device, say: fewer will do
			}
			if !slices.Equal(maps, alone[:len(maps)]) {
				return nil
			}
			fastest = min(fastest, took/float64(count))
		}
		switch {
		case fastest < cheapest:
			cheapest = fastest
			in.CompareInChunks(count)
		case count >= 4 && in.chunk == 1:
			return nil // nothing is gained by more
		}
	}
	return nil
}

// compareAlone fills the batch's buffers with variations of their first latents,
// compares each pair by itself and returns the maps and the shortest time; no
// maps where that would take longer than it may.
func (in *Inspector) compareAlone(ctx context.Context, atMost time.Duration) (maps []float32, fastest float64, err error) {
	latent := len(in.z)
	for k := 1; k <= in.last; k++ {
		for _, batch := range [][]float32{in.batchTest, in.batchGen} {
			own := batch[k*latent : (k+1)*latent]
			copy(own[copy(own, batch[k%latent:latent]):], batch[:k%latent])
		}
	}
	fastest = math.Inf(1)
	for k := range in.last + 1 {
		found, took, err := in.compareAgain(ctx, k, 1)
		if err != nil {
			return nil, 0, err
		}
		maps, fastest = append(maps, found...), min(fastest, took)
		if fastest*float64(in.last+1) > atMost.Seconds() {
			return nil, fastest, nil
		}
	}
	return maps, fastest, nil
}

// compareAgain compares some pairs of latents that the batch's buffers hold, in
// one call, and returns the maps and the seconds that it took.
func (in *Inspector) compareAgain(ctx context.Context, first, count int) (maps []float32, seconds float64, err error) {
	latent, plane := len(in.z), len(in.gateMap[0])
	from, to := first*latent, (first+count)*latent
	maps = in.batchMaps[:count*plane]
	var took time.Duration
	err = call(ctx, "compare", noTimestep, &took, maps, func() error {
		return in.models.Compare(ctx, in.batchTest[from:to], in.batchGen[from:to], maps)
	})
	return maps, took.Seconds(), err
}
