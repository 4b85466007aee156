package pipeline

import (
	"context"
	"fmt"
	"time"
)

// Inspector computes GLAD for one model. It owns the buffers of one
// inspection: use it from one goroutine at a time.
type Inspector struct {
	models     Models
	parameters Parameters
	start      noiseLevel
	steps      []step
	final      noiseLevel // of the clean latent
	comparable []int      // the timesteps that are compared at the most
	last       int        // the index of the last of them
	forced     bool       // the trajectory switches there at the latest
	chunk      int        // how many steps in a row are compared in one call
	threshold  float64    // of the gate score, for the part at hand

	image                          []float32 // [3,H,W]
	z, posteriorStd                []float32 // [C,h,w]; the latter only where the posterior is sampled
	noise, posteriorNoise          []float32
	xTest, x0Test, x0Gen           []float32
	batchTest, batchGen, batchMaps []float32 // of the steps that one call compares
	indices                        []int     // with room for all steps that can be compared
	comparing                      []int     // the steps of the call under way
	probed                         []int     // the steps that the plan at hand probes
	rest                           []int     // the steps that are left after the switch
	highest                        []float32 // the highest values of a map
	timestepOfCall, classOf        []int     // arguments of a batch of one
	trajectory
}

// Input is one part.
type Input struct {
	// RGB is the prepared picture, 8 bit, [H][W][3] (see [Prepare]).
	RGB []byte
	// Class is the part's class, an index; used by models of several classes
	// only.
	Class int
	// Noise [C,h,w] replaces the generated noise, EncodeNoise [C,h,w] that of
	// the posterior. Nil: generated from the picture.
	Noise, EncodeNoise []float32
	// GateThreshold replaces the model's threshold of the gate score; nil: it
	// does not. 0 turns the adaptive step off.
	GateThreshold *float64
	// Location standardises the map, before the object mask; nil or empty: the
	// map stays as it is, as in GLAD.
	Location *Location
	// Plan of the comparisons; the zero Plan: GLAD as its authors compute it.
	Plan Plan
	// Reuse is an earlier result that is not needed any more: its slices become
	// the new one's. Nil: they are made.
	Reuse *Result
}

// Reasons of a switch.
const (
	SwitchThreshold = "threshold" // the gate score crossed the threshold
	SwitchMinStep   = "min_step"  // the trajectory fell below the minimal step
	SwitchNone      = "none"      // there was no switch
)

// GateScore is the outcome of one comparison along the trajectory.
type GateScore struct {
	Timestep int
	Score    float64
}

// Result is what GLAD finds about one part. Its slices are the caller's.
type Result struct {
	// Score is the anomaly score: the mean of the map's highest values.
	Score float64
	// AnomalyMap [S,S], after the object mask.
	AnomalyMap []float32
	// Reconstruction [3,H,W], not clamped to [-1,1].
	Reconstruction []float32
	// Latent [C,h,w] after the last step.
	Latent []float32
	// Gate holds every comparison made, in order.
	Gate []GateScore
	// SwitchTimestep is 0 where SwitchReason is none.
	SwitchTimestep int
	SwitchReason   string
	Predictions    int // calls of PredictNoise
	Timings        Timings
}

// Timings say where an inspection's time went. All but Total are time spent
// inside the networks.
type Timings struct {
	Encode, PredictNoise, Compare, Reconstruct, Score time.Duration
	Total                                             time.Duration
}

// Networks is the time spent inside the networks.
func (t Timings) Networks() time.Duration {
	return t.Encode + t.PredictNoise + t.Compare + t.Reconstruct + t.Score
}

// NewInspector prepares inspections with a model.
func NewInspector(models Models, parameters Parameters) (*Inspector, error) {
	if err := parameters.check(); err != nil {
		return nil, fmt.Errorf("new inspector: %w", err)
	}
	start, steps, final, err := parameters.Schedule.trajectory(parameters.Denoise)
	if err != nil {
		return nil, fmt.Errorf("new inspector: %w", err)
	}
	last, forced := lastCompared(steps, parameters.Denoise.MinStep)
	latent := func() []float32 { return make([]float32, parameters.latentLen()) }
	in := &Inspector{
		models:     models,
		parameters: parameters,
		start:      start,
		steps:      steps,
		final:      final,
		last:       last,
		forced:     forced,
		chunk:      1,
		image:      make([]float32, parameters.imageLen()),
		z:          latent(),
		noise:      latent(),
		xTest:      latent(),
		x0Test:     latent(),
		x0Gen:      latent(),
		batchTest:  make([]float32, (last+1)*parameters.latentLen()),
		batchGen:   make([]float32, (last+1)*parameters.latentLen()),
		batchMaps:  make([]float32, (last+1)*parameters.latentPlane()),
		indices:    make([]int, 0, last+1),
		probed:     make([]int, 0, last+1),
		rest:       make([]int, 0, len(steps)),
		highest:    make([]float32, max(parameters.Denoise.GateTopK, parameters.Score.TopK)),
		trajectory: newTrajectory(len(steps), last, parameters.latentLen(), parameters.latentPlane()),

		timestepOfCall: make([]int, 1),
	}
	for _, step := range steps[:last+1] {
		in.comparable = append(in.comparable, step.timestep)
	}
	if parameters.Latent.Sample {
		in.posteriorStd, in.posteriorNoise = latent(), latent()
	}
	if parameters.Classes > 0 {
		in.classOf = make([]int, 1)
	}
	return in, nil
}

// CompareInChunks has up to count steps compared in one call where several are
// wanted: in a row, if the order of comparisons allows it, or a plan's probes.
// Results stay the same; a part that switches within a chunk has a little work
// undone. Worth it where a batch costs less than its
// parts.
func (in *Inspector) CompareInChunks(count int) { in.chunk = min(max(count, 1), in.last+1) }

// Inspect computes GLAD for one part. A [CallError], a [NumericError] or the
// context's error ends it; the result then holds what was learned up to there:
// the comparisons, the switch and the timings.
func (in *Inspector) Inspect(ctx context.Context, part Input) (result Result, err error) {
	began := time.Now()
	result.SwitchReason = SwitchNone
	if part.Reuse != nil {
		result.Gate = part.Reuse.Gate[:0]
	}
	defer func() { result.Timings.Total = time.Since(began) }()

	if err := in.load(part); err != nil {
		return result, fmt.Errorf("inspect: %w", err)
	}
	if err := in.encode(ctx, &result.Timings); err != nil {
		return result, err
	}
	if err := in.denoise(ctx, part, &result); err != nil {
		return result, err
	}
	if err := in.score(ctx, part, &result); err != nil {
		return result, err
	}
	return result, nil
}

// load fills the image and the noise.
func (in *Inspector) load(part Input) error {
	p := in.parameters
	if len(part.RGB) != p.imageLen() {
		return fmt.Errorf("picture: expected %d bytes for %dx%d RGB, found %d", p.imageLen(), p.Image.Width, p.Image.Height, len(part.RGB))
	}
	if in.classOf != nil {
		if part.Class < 0 || part.Class >= p.Classes {
			return fmt.Errorf("class: expected an index of 0 to %d, found %d", p.Classes-1, part.Class)
		}
		in.classOf[0] = part.Class
	}
	if err := p.checkLocation(part.Location); err != nil {
		return err
	}
	probed, err := part.Plan.probes(in.comparable, in.probed[:0])
	if err != nil {
		return err
	}
	in.probed = probed
	fillImage(in.image, part.RGB)

	source := noiseSource(p.Digest, part.RGB)
	fillNormal(in.noise, source)
	fillNormal(in.posteriorNoise, source)
	if err := replaceNoise("noise", in.noise, part.Noise); err != nil {
		return err
	}
	return replaceNoise("encode noise", in.posteriorNoise, part.EncodeNoise)
}

func replaceNoise(name string, noise, given []float32) error {
	if given == nil {
		return nil
	}
	if len(given) != len(noise) {
		return fmt.Errorf("%s: expected %d values, found %d", name, len(noise), len(given))
	}
	copy(noise, given)
	return nil
}

// encode finds z, the part's latent.
func (in *Inspector) encode(ctx context.Context, timings *Timings) error {
	err := call(ctx, "encode", noTimestep, &timings.Encode, in.z, func() error {
		return in.models.Encode(ctx, in.image, in.z, in.posteriorStd)
	})
	if err != nil || in.posteriorStd == nil {
		return err
	}
	for i, std := range in.posteriorStd {
		in.z[i] += std * in.posteriorNoise[i]
	}
	return finite("encode", noTimestep, in.z)
}

// score decodes the final latent and compares the picture with it.
func (in *Inspector) score(ctx context.Context, part Input, result *Result) error {
	p := in.parameters
	var reuse Result
	if part.Reuse != nil {
		reuse = *part.Reuse
	}
	latent, reconstruction := in.x[len(in.steps)], ofLength(reuse.Reconstruction, p.imageLen())
	err := call(ctx, "reconstruct", noTimestep, &result.Timings.Reconstruct, reconstruction, func() error {
		return in.models.Reconstruct(ctx, latent, reconstruction)
	})
	if err != nil {
		return err
	}
	anomalyMap := ofLength(reuse.AnomalyMap, p.anomalyMapLen())
	err = call(ctx, "score", noTimestep, &result.Timings.Score, anomalyMap, func() error {
		return in.models.Score(ctx, in.image, reconstruction, anomalyMap)
	})
	if err != nil {
		return err
	}
	if part.Location != nil {
		part.Location.standardise(anomalyMap)
	}
	if p.Score.ObjectMask != ObjectMaskNone {
		mask := p.Score.ObjectMask.compute(part.RGB, p.Image.Width, p.Image.Height, p.Score.MapSize)
		for i, weight := range mask {
			anomalyMap[i] = float32(float64(anomalyMap[i]) * weight)
		}
	}

	result.Score = meanTopK(anomalyMap, in.highest[:p.Score.TopK])
	result.AnomalyMap = anomalyMap
	result.Reconstruction = reconstruction
	result.Latent = ofLength(reuse.Latent, len(latent))
	copy(result.Latent, latent)
	return nil
}

// ofLength returns a slice of a length, in the memory of another one if it has
// room. Its values are anything.
func ofLength(values []float32, length int) []float32 {
	if cap(values) < length {
		return make([]float32, length)
	}
	return values[:length]
}
