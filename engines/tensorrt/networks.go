package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"

	"gladd/engines"
	"gladd/trt/cuda"
)

// Networks are a bundle's networks on TensorRT. All calls of a backend run one at
// a time.
type Networks struct {
	backend *Backend
	bundle  *engines.Bundle
	runtime engines.Runtime

	loaded *loaded              // nil: closed, or lost with the GPU
	loss   error                // of the GPU, after which they were not loaded anew yet; nil: they were
	proofs map[string][]float32 // see loaded; nil: never loaded
	closed bool
}

var errClosed = errors.New("the networks are closed")

// Runtime implements [engines.Networks].
func (n *Networks) Runtime() engines.Runtime { return n.runtime }

// Close implements [engines.Networks].
func (n *Networks) Close() error {
	n.backend.turn <- struct{}{}
	defer func() { <-n.backend.turn }()
	if n.closed {
		return nil
	}
	n.closed = true
	delete(n.backend.networks, n)
	return n.unload()
}

// Encode implements [engines.Networks].
func (n *Networks) Encode(ctx context.Context, images, mean, std []float32) error {
	image, latent := n.sizes()
	if n.bundle.Manifest.Latent.Encode != engines.EncodeSample {
		std = nil
	}
	return n.each(ctx, "encode", len(images), image, func(i int) error {
		outputs := [][]float32{part(mean, i, latent)}
		if std != nil {
			outputs = append(outputs, part(std, i, latent))
		}
		return n.call(ctx, "encode", []feed{{floats: part(images, i, image)}}, outputs)
	})
}

// PredictNoise implements [engines.Networks].
func (n *Networks) PredictNoise(ctx context.Context, samples []float32, timesteps, classes []int, eps []float32) error {
	_, latent := n.sizes()
	return n.each(ctx, "predict noise", len(samples), latent, func(i int) error {
		inputs := []feed{{floats: part(samples, i, latent)}, {ints: part(timesteps, i, 1)}}
		if len(n.bundle.Manifest.Classes) > 0 {
			inputs = append(inputs, feed{ints: part(classes, i, 1)})
		}
		return n.call(ctx, "predict noise", inputs, [][]float32{part(eps, i, latent)})
	})
}

// Compare implements [engines.Networks]. The decoded pictures stay on the GPU.
func (n *Networks) Compare(ctx context.Context, latentsTest, latentsRecon, maps []float32) error {
	image, latent := n.sizes()
	grid := n.bundle.Manifest.Latent.Width * n.bundle.Manifest.Latent.Height
	if len(latentsRecon) != len(latentsTest) || latent*len(maps) != grid*len(latentsTest) {
		return fmt.Errorf("compare: expected latents of one length and a map for each, found %d and %d values, and %d of maps", len(latentsTest), len(latentsRecon), len(maps))
	}
	return n.each(ctx, "compare", len(latentsTest), latent, func(i int) error {
		energies := make([]float32, 2)
		err := n.call(ctx, "compare",
			[]feed{{floats: part(latentsTest, i, latent)}, {floats: part(latentsRecon, i, latent)}},
			[][]float32{energies, part(maps, i, grid)})
		if err != nil {
			return err
		}
		for picture, energy := range energies {
			if math.IsNaN(float64(energy)) || math.IsInf(float64(energy), 0) {
				// Which value it was stays on the GPU; the picture is known.
				return &engines.NotFiniteError{Graph: n.bundle.Graph(engines.VAEDecoder), Tensor: "image", Index: picture * image, Value: energy}
			}
		}
		return nil
	})
}

// Reconstruct implements [engines.Networks].
func (n *Networks) Reconstruct(ctx context.Context, latents, images []float32) error {
	image, latent := n.sizes()
	return n.each(ctx, "reconstruct", len(latents), latent, func(i int) error {
		return n.call(ctx, "reconstruct", []feed{{floats: part(latents, i, latent)}}, [][]float32{part(images, i, image)})
	})
}

// Score implements [engines.Networks].
func (n *Networks) Score(ctx context.Context, testImages, reconstructions, maps []float32) error {
	image, _ := n.sizes()
	size := n.bundle.Manifest.Score.MapSize * n.bundle.Manifest.Score.MapSize
	return n.each(ctx, "score", len(testImages), image, func(i int) error {
		return n.call(ctx, "score",
			[]feed{{floats: part(testImages, i, image)}, {floats: part(reconstructions, i, image)}},
			[][]float32{part(maps, i, size)})
	})
}

// sizes of a picture and of a latent, in values.
func (n *Networks) sizes() (image, latent int) {
	m := n.bundle.Manifest
	return 3 * m.Image.Width * m.Image.Height, m.Latent.Channels * m.Latent.Width * m.Latent.Height
}

// each runs a call sample by sample. values is the length of the first input, of so
// many values a sample.
func (n *Networks) each(ctx context.Context, what string, values, sample int, run func(i int) error) error {
	if values == 0 || values%sample != 0 {
		return fmt.Errorf("%s: expected a multiple of %d values, found %d", what, sample, values)
	}
	return n.backend.exclusively(ctx, func() error {
		if err := n.load(ctx); err != nil {
			return err
		}
		for i := range values / sample {
			if err := run(i); err != nil {
				return fmt.Errorf("%s on the GPU: %w", what, err)
			}
		}
		return nil
	})
}

// part is the values of a sample; nil where there are too few, which [routine.set]
// then tells.
func part[V any](values []V, i, sample int) []V {
	if len(values) < (i+1)*sample {
		return nil
	}
	return values[i*sample : (i+1)*sample]
}

// feed is one input of a call: values, or a whole number for each sample.
type feed struct {
	floats []float32
	ints   []int
}

// call runs one routine. The caller has the turn.
func (n *Networks) call(ctx context.Context, name string, inputs []feed, outputs [][]float32) error {
	loaded := n.loaded
	var results [][]float32 // the GPU's side of the outputs
	err := n.backend.device.Do(ctx, name, func(thread *cuda.Thread) error {
		routine, err := loaded.routine(name)
		if err != nil {
			return err
		}
		if err := routine.set(inputs, outputs); err != nil {
			return err
		}
		if err := loaded.run(thread, routine); err != nil {
			return err
		}
		results = routine.results()
		return nil
	})
	if err != nil {
		// The closure may still run, if the GPU hangs: what it would write to is
		// not the caller's memory.
		return err
	}
	for i, output := range outputs {
		copy(output, results[i])
	}
	return nil
}

// load makes the networks ready, unless they are. The caller has the turn.
func (n *Networks) load(ctx context.Context) error {
	if n.closed {
		return errClosed
	}
	if n.proofs != nil && (n.loaded == nil || n.backend.device.Lost() != nil) {
		// Loading may take longer than a part has: one that gave up at its deadline, and
		// the next at its own, would never be done.
		ctx = context.WithoutCancel(ctx)
	}
	if err := n.backend.working(ctx); err != nil {
		return err
	}
	if n.loaded != nil {
		return nil
	}
	loaded, err := n.backend.load(ctx, n.bundle)
	if err != nil && n.loss != nil && n.proofs != nil {
		return n.backend.giveUp(fmt.Errorf("%s: its engines could not be loaded anew: %w; after %w", n.bundle.Manifest.Name, err, n.loss))
	}
	if err != nil {
		return err
	}
	n.loaded = loaded
	if n.proofs == nil {
		n.proofs = maps.Clone(loaded.proofs) // a move to another memory makes others
	}
	if err := unlike(n.proofs, loaded.proofs); err != nil {
		err = fmt.Errorf("%s: its engines were loaded anew and do not compute what they did: %w", n.bundle.Manifest.Name, err)
		return errors.Join(n.backend.giveUp(err), n.unload())
	}
	n.loss = nil
	return nil
}

// unload frees what is on the GPU. The caller has the turn.
func (n *Networks) unload() error {
	loaded := n.loaded
	n.loaded = nil
	if loaded == nil {
		return nil
	}
	return n.backend.device.Do(context.Background(), "free the engines", func(*cuda.Thread) error {
		return errors.Join(loaded.free(), n.backend.freeScratch())
	})
}
