package onnxruntime

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"gladd/engines"
)

// BenchmarkThreads compares ways to give threads to five sessions that are
// called in turn, on the calls of a good part: 15 steps and 10 comparisons. It
// needs the bundle and the library that 'make bench' names.
func BenchmarkThreads(b *testing.B) {
	dir, library := os.Getenv("GLADD_BENCH_BUNDLE"), os.Getenv("GLADD_ONNXRUNTIME_LIBRARY")
	if dir == "" || library == "" {
		b.Skip("GLADD_BENCH_BUNDLE and GLADD_ONNXRUNTIME_LIBRARY do not say what to measure")
	}
	for _, spin := range []spinning{spinInCalls, spinNever, spinOn} {
		for _, threads := range []int{1, 0} {
			b.Run(fmt.Sprintf("threads=%d/spinning=%s", threads, spin), func(b *testing.B) {
				backend, err := New(Options{Library: library, Threads: threads, spin: spin})
				if err != nil {
					b.Fatal(err)
				}
				defer backend.Close()
				bundle, err := engines.Load(dir)
				if err != nil {
					b.Fatal(err)
				}
				networks, err := backend.Open(b.Context(), bundle)
				if err != nil {
					b.Fatal(err)
				}
				defer networks.Close() //nolint:errcheck // the benchmark ends here
				part := newPart(bundle.Manifest)
				for b.Loop() {
					if err := part.inspect(b, networks); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// part holds the tensors of one part, all zeros: the time does not depend on
// the values.
type part struct {
	image, reconstruction, mean, std, eps, grid, anomalyMap []float32
	classes                                                 []int
}

func newPart(m engines.Manifest) part {
	image, latent := 3*m.Image.Width*m.Image.Height, m.Latent.Channels*m.Latent.Width*m.Latent.Height
	made := part{
		image: make([]float32, image), reconstruction: make([]float32, image), mean: make([]float32, latent), eps: make([]float32, latent),
		grid: make([]float32, m.Latent.Width*m.Latent.Height), anomalyMap: make([]float32, m.Score.MapSize*m.Score.MapSize), classes: []int{0},
	}
	if m.Latent.Encode == engines.EncodeSample {
		made.std = make([]float32, latent)
	}
	return made
}

func (p part) inspect(b *testing.B, networks engines.Networks) error {
	ctx := b.Context()
	errs := []error{networks.Encode(ctx, p.image, p.mean, p.std)}
	for step := range 15 {
		errs = append(errs, networks.PredictNoise(ctx, p.mean, []int{900 - 60*step}, p.classes, p.eps))
		if step < 10 {
			errs = append(errs, networks.Compare(ctx, p.mean, p.eps, p.grid))
		}
	}
	errs = append(errs, networks.Reconstruct(ctx, p.mean, p.reconstruction), networks.Score(ctx, p.image, p.reconstruction, p.anomalyMap))
	return errors.Join(errs...)
}
