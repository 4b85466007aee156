package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gladd/engines"
	"gladd/pipeline"
)

// Difference is how far two backends are apart in one call of the networks.
type Difference struct {
	Call    string
	Batch   int
	Largest float64 // difference of two values
	Mean    float64 // of all differences
	Spread  float64 // standard deviation of the reference's values
}

// Share is the largest difference as a share of the values' spread.
func (d Difference) Share() float64 {
	if d.Largest == 0 {
		return 0
	}
	return d.Largest / d.Spread
}

// verifiedBatches are the batch sizes that are compared: the one of almost all calls,
// that of a comparison's decoder, and the largest.
var verifiedBatches = []int{1, 2, 8}

// verifiedClasses is how many classes are compared at most.
const verifiedClasses = 16

// Differences runs every call of the networks on two backends, on the same inputs.
// They come from the reference: pictures of smooth noise, their latents, and the
// noise that is predicted for them, so that all values are of the size that
// inspections have. Noise is predicted at the first, the middle and the last timestep of an
// inspection for every class, one by one and, in a batch, mixed.
func Differences(ctx context.Context, manifest engines.Manifest, reference, tested engines.Networks) ([]Difference, error) {
	var all []Difference
	for _, batch := range verifiedBatches {
		found, err := differences(ctx, manifest, reference, tested, batch)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func differences(ctx context.Context, m engines.Manifest, reference, tested engines.Networks, batch int) ([]Difference, error) {
	image, latent := 3*m.Image.Width*m.Image.Height, m.Latent.Channels*m.Latent.Width*m.Latent.Height
	grid, mapSize := m.Latent.Width*m.Latent.Height, m.Score.MapSize*m.Score.MapSize
	floats := func(size int) []float32 { return make([]float32, batch*size) }
	source := rand.New(rand.NewPCG(1, uint64(batch)))
	images, noise := floats(image), floats(latent)
	smoothNoise(source, images, batch, m.Image.Width, m.Image.Height)
	for i := range noise {
		noise[i] = float32(source.NormFloat64())
	}

	var found []Difference
	// both runs a call on both and returns the reference's output.
	both := func(call string, size int, run func(networks engines.Networks, output []float32) error) ([]float32, error) {
		want, got := floats(size), floats(size)
		if err := run(reference, want); err != nil {
			return nil, fmt.Errorf("%s, batch %d: %w", call, batch, err)
		}
		if err := run(tested, got); err != nil {
			return nil, fmt.Errorf("%s, batch %d: %w", call, batch, err)
		}
		found = append(found, difference(call, batch, want, got))
		return want, nil
	}
	var stds [][]float32
	latents, err := both("encode", latent, func(networks engines.Networks, mean []float32) error {
		var std []float32
		if m.Latent.Encode == engines.EncodeSample {
			std = floats(latent)
			stds = append(stds, std)
		}
		return networks.Encode(ctx, images, mean, std)
	})
	if err != nil {
		return nil, err
	}
	if stds != nil {
		apart := difference("encode, standard deviation", batch, stds[0], stds[1])
		apart.Spread = found[0].Spread // of the latents, to which noise of this size is added
		found = append(found, apart)
	}
	noisy := floats(latent)
	for i := range noisy {
		noisy[i] = (latents[i] + noise[i]) * math.Sqrt2 / 2 // as at the step where both weigh the same
	}
	predict := func(name string, timesteps, classes []int) error {
		_, err := both(name, latent, func(networks engines.Networks, eps []float32) error {
			return networks.PredictNoise(ctx, noisy, timesteps, classes, eps)
		})
		return err
	}
	timesteps, classes := verifiedTimesteps(m), evenly(max(1, len(m.Classes)), verifiedClasses)
	if batch > 1 {
		cycle := func(values []int) []int { return slices.Repeat(values, batch)[:batch] }
		err = predict("predict noise", cycle(timesteps), cycle(classes))
	} else {
		for _, timestep := range timesteps {
			for _, class := range classes {
				name := fmt.Sprintf("predict noise at %d", timestep)
				if len(m.Classes) > 0 {
					name += ", class " + m.Classes[class]
				}
				err = errors.Join(err, predict(name, []int{timestep}, []int{class}))
			}
		}
	}
	if err != nil {
		return nil, err
	}
	reconstructions, err := both("reconstruct", image, func(networks engines.Networks, images []float32) error {
		return networks.Reconstruct(ctx, latents, images)
	})
	if err != nil {
		return nil, err
	}
	_, err = both("compare", grid, func(networks engines.Networks, maps []float32) error {
		return networks.Compare(ctx, latents, noisy, maps)
	})
	_, err2 := both("score", mapSize, func(networks engines.Networks, maps []float32) error {
		return networks.Score(ctx, images, reconstructions, maps)
	})
	return found, errors.Join(err, err2)
}

// verifiedTimesteps are the first, the middle and the last of an inspection.
func verifiedTimesteps(m engines.Manifest) []int {
	schedule := pipeline.Schedule{StepsOffset: m.Schedule.StepsOffset}
	all := schedule.Timesteps(pipeline.Denoise{Step: m.Denoise.Step, InferenceSteps: m.Denoise.InferenceSteps})
	return slices.Compact([]int{all[0], all[len(all)/2], all[len(all)-1]})
}

// evenly picks at most so many of the first numbers, the first and the last among them.
func evenly(count, most int) []int {
	picked := make([]int, min(count, most))
	for i := range picked {
		picked[i] = i
		if count > most {
			picked[i] = i * (count - 1) / (most - 1)
		}
	}
	return picked
}

// smoothNoise fills pictures [N,3,H,W] with random waves in [-1,1].
func smoothNoise(source *rand.Rand, images []float32, batch, width, height int) {
	for plane := range 3 * batch {
		horizontal, vertical, phase := 2+6*source.Float64(), 2+6*source.Float64(), 2*math.Pi*source.Float64()
		for y := range height {
			for x := range width {
				wave := math.Sin(phase + 2*math.Pi*(horizontal*float64(x)/float64(width)+vertical*float64(y)/float64(height)))
				images[(plane*height+y)*width+x] = float32(0.8*wave + 0.2*(2*source.Float64()-1))
			}
		}
	}
}

func difference(call string, batch int, want, got []float32) Difference {
	d := Difference{Call: call, Batch: batch}
	var sum, squares float64
	for i := range want {
		apart := math.Abs(float64(want[i]) - float64(got[i]))
		if !(apart <= d.Largest) { // a NaN stays
			d.Largest = apart
		}
		d.Mean += apart / float64(len(want))
		sum += float64(want[i])
		squares += float64(want[i]) * float64(want[i])
	}
	mean := sum / float64(len(want))
	d.Spread = math.Sqrt(max(0, squares/float64(len(want))-mean*mean))
	return d
}
