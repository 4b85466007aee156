package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/station"
)

// Load is how long parts wait for their scores when they come at random at a
// share of what a plan can do.
type Load struct {
	Plan     string  `json:"plan"`
	Capacity float64 `json:"capacity_share"`
	Rate     float64 `json:"parts_per_second"`
	Parts    int     `json:"parts"`
	Median   float64 `json:"latency_median_ms"`
	P95      float64 `json:"latency_p95_ms"`
	Longest  float64 `json:"latency_longest_ms"`
}

// loads lets parts come whether the part before is done or not (an open loop),
// as a line does.
func loads(ctx context.Context, options Options, report *Report, pictures []*capture.Picture) ([]Load, error) {
	var found []Load
	for i, plan := range options.Plans {
		capacity := 1000 / report.partMean(i)
		for _, share := range []float64{0.5, 0.8, 0.95} {
			options.Begin(fmt.Sprintf("%s at %.0f %% of its capacity", plan.Name, 100*share), options.Parts)
			next, err := load(ctx, options, plan, pictures, share*capacity)
			if err != nil {
				return nil, err
			}
			next.Capacity = share
			found = append(found, next)
		}
	}
	return found, nil
}

// partMean is the mean time of a part under a plan, good and defective ones as
// the set has them, in milliseconds.
func (r *Report) partMean(plan int) float64 {
	costs, share := r.Plans[plan], float64(r.Bad)/float64(r.Good+r.Bad)
	return (1-share)*costs.Good.Mean + share*costs.BadMean
}

// readPictures reads some of the set's pictures, good and defective ones alike.
func readPictures(options Options) ([]*capture.Picture, error) {
	const most = 32
	source := rand.New(rand.NewPCG(3, 4))
	var pictures []*capture.Picture
	for _, i := range source.Perm(len(options.Class.Pictures)) {
		if len(pictures) == most {
			break
		}
		picture, err := capture.ReadPicture(options.Class.Pictures[i].Path, 0)
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, picture)
	}
	return pictures, nil
}

func load(ctx context.Context, options Options, plan Plan, pictures []*capture.Picture, rate float64) (Load, error) {
	source := rand.New(rand.NewPCG(5, 6))
	began, due := time.Now(), time.Duration(0)
	latencies := make([]float64, options.Parts)
	for k := range latencies {
		due += time.Duration(source.ExpFloat64() / rate * float64(time.Second))
		if err := sleepUntil(ctx, began.Add(due)); err != nil {
			return Load{}, err
		}
		if _, err := inspect(ctx, plan, pictures[k%len(pictures)], options.Index); err != nil {
			return Load{}, err
		}
		latencies[k] = milliseconds(time.Since(began) - due)
		options.Step()
	}
	slices.Sort(latencies)
	return Load{
		Plan: plan.Name, Rate: rate, Parts: options.Parts,
		Median: quantile(latencies, 0.5), P95: quantile(latencies, 0.95), Longest: latencies[len(latencies)-1],
	}, nil
}

func sleepUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopped: %w", ctx.Err())
	}
}

// Shared is what several stations on the same networks inspect together, in
// turns as the daemon has them.
type Shared struct {
	Plan     string  `json:"plan"`
	Stations int     `json:"stations"`
	Rate     float64 `json:"parts_per_second"`
}

func stations(ctx context.Context, options Options, pictures []*capture.Picture) ([]Shared, error) {
	var found []Shared
	for _, plan := range options.Plans {
		copies := []Plan{plan}
		for _, count := range []int{1, 2, 4, 8} {
			for len(copies) < count {
				another, err := options.Again(plan)
				if err != nil {
					return nil, err
				}
				copies = append(copies, another)
			}
			options.Begin(fmt.Sprintf("%s on %d stations", plan.Name, count), options.Parts)
			rate, err := together(ctx, options, copies, pictures)
			if err != nil {
				return nil, err
			}
			found = append(found, Shared{plan.Name, count, rate})
		}
	}
	return found, nil
}

// together has copies of a plan inspect side by side and returns how many parts
// a second all of them inspect.
func together(ctx context.Context, options Options, copies []Plan, pictures []*capture.Picture) (float64, error) {
	turns, began := station.NewTurns(), time.Now()
	var working sync.WaitGroup
	failed := make(chan error, len(copies))
	for n, plan := range copies {
		working.Go(func() {
			for k := n; k < options.Parts; k += len(copies) {
				if err := turns.Take(ctx); err != nil {
					failed <- fmt.Errorf("stopped: %w", err)
					return
				}
				_, err := inspect(ctx, plan, pictures[k%len(pictures)], options.Index)
				turns.Give()
				if err != nil {
					failed <- err
					return
				}
				options.Step()
			}
		})
	}
	working.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
	}
	return float64(options.Parts) / time.Since(began).Seconds(), nil
}

// Batch is what a call costs for several parts at once, in milliseconds for each
// of them.
type Batch struct {
	Call  string  `json:"call"`
	Size  int     `json:"size"`
	MS    float64 `json:"ms_each"`
	Low   float64 `json:"fastest_ms_each"`
	Times int     `json:"times"`
}

// batches times the networks by themselves, on noise.
func batches(ctx context.Context, options Options) ([]Batch, error) {
	const largest, times = 8, 5
	p := options.Plans[0].Model.Parameters
	latent, image, plane := p.Latent.Channels*p.Latent.Width*p.Latent.Height, 3*p.Image.Width*p.Image.Height, p.Latent.Width*p.Latent.Height
	source := rand.New(rand.NewPCG(7, 8))
	noise := func(length int) []float32 {
		values := make([]float32, largest*length)
		for i := range values {
			values[i] = float32(source.NormFloat64()) / 2
		}
		return values
	}
	latents, images := noise(latent), noise(image)
	outLatents, outImages, maps := make([]float32, largest*latent), make([]float32, largest*image), make([]float32, largest*plane)
	scores := make([]float32, largest*p.Score.MapSize*p.Score.MapSize)
	timesteps := slices.Repeat([]int{p.Denoise.Step / 2}, largest)
	var classes []int
	if p.Classes > 0 {
		classes = make([]int, largest)
	}
	std := func(n int) []float32 {
		if !p.Latent.Sample {
			return nil
		}
		return make([]float32, n*latent)
	}
	networks := options.Networks
	calls := []struct {
		name string
		run  func(n int) error
	}{
		{"encode", func(n int) error { return networks.Encode(ctx, images[:n*image], outLatents[:n*latent], std(n)) }},
		{"predict noise", func(n int) error {
			return networks.PredictNoise(ctx, latents[:n*latent], timesteps[:n], classes[:min(n, len(classes))], outLatents[:n*latent])
		}},
		{"compare", func(n int) error {
			return networks.Compare(ctx, latents[:n*latent], latents[:n*latent], maps[:n*plane])
		}},
		{"reconstruct", func(n int) error { return networks.Reconstruct(ctx, latents[:n*latent], outImages[:n*image]) }},
		{"score", func(n int) error {
			return networks.Score(ctx, images[:n*image], images[:n*image], scores[:n*p.Score.MapSize*p.Score.MapSize])
		}},
	}
	options.Begin("batches", 4*len(calls))
	var found []Batch
	for _, call := range calls {
		for size := 1; size <= largest; size *= 2 {
			var took []float64
			for range times + 1 {
				began := time.Now()
				if err := call.run(size); err != nil {
					return nil, fmt.Errorf("%s, %d at once: %w", call.name, size, err)
				}
				took = append(took, milliseconds(time.Since(began))/float64(size))
			}
			took = took[1:] // the first of a size also finds its memory
			slices.Sort(took)
			found = append(found, Batch{Call: call.name, Size: size, MS: took[times/2], Low: took[0], Times: times})
			options.Step()
		}
	}
	return found, nil
}
