package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"gladd/engines"
)

// Networks are a bundle's networks on ONNX Runtime. Calls run one at a time: they
// use the same buffers.
type Networks struct {
	backend  *Backend
	manifest engines.Manifest
	runtime  engines.Runtime

	mutex    sync.Mutex
	sessions map[engines.GraphName]*session // nil once closed
}

var errClosed = errors.New("the networks are closed")

// Runtime implements [engines.Networks].
func (n *Networks) Runtime() engines.Runtime { return n.runtime }

// Close implements [engines.Networks].
func (n *Networks) Close() error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.backend.Fault() != nil {
		// Freeing them would call a GPU that is lost.
		leave(n.sessions)
		n.sessions = nil
		return nil
	}
	var err error
	for _, session := range n.sessions {
		err = errors.Join(err, session.close())
	}
	n.sessions = nil
	return err
}

// Encode implements [engines.Networks].
func (n *Networks) Encode(ctx context.Context, images, mean, std []float32) error {
	return n.call(ctx, func() error {
		outputs := [][]float32{mean, std}
		if n.manifest.Latent.Encode != engines.EncodeSample {
			outputs = outputs[:1]
		}
		return n.run(engines.VAEEncoder, [][]float32{images}, outputs)
	})
}

// PredictNoise implements [engines.Networks].
func (n *Networks) PredictNoise(ctx context.Context, samples []float32, timesteps, classes []int, eps []float32) error {
	return n.call(ctx, func() error {
		session := n.sessions[engines.UNet]
		bound, err := session.bind(len(timesteps))
		if err != nil {
			return err
		}
		if err := bound.inputs[0].set(session, 0, samples); err != nil {
			return err
		}
		numbers := [][]int{timesteps}
		if len(n.manifest.Classes) > 0 {
			numbers = append(numbers, classes)
		}
		for i, values := range numbers {
			if err := bound.inputs[1+i].setInts(session, 1+i, values); err != nil {
				return err
			}
		}
		if err := session.run(bound); err != nil {
			return err
		}
		return bound.outputs[0].get(session, 0, eps)
	})
}

// Compare implements [engines.Networks]. Both latents are decoded in one call.
func (n *Networks) Compare(ctx context.Context, latentsTest, latentsRecon, maps []float32) error {
	return n.call(ctx, func() error {
		batch := len(latentsTest) / n.latentLen()
		decoder := n.sessions[engines.VAEDecoder]
		decoded, err := decoder.bind(2 * batch)
		if err != nil {
			return err
		}
		both := decoded.inputs[0].floats
		if len(latentsTest) != len(both)/2 || len(latentsRecon) != len(both)/2 {
			return fmt.Errorf("%s: input %q: expected twice %d values, found %d and %d",
				decoder.graph.Path, decoder.inputs[0].Name, len(both)/2, len(latentsTest), len(latentsRecon))
		}
		copy(both, latentsTest)
		copy(both[len(both)/2:], latentsRecon)
		if err := decoder.run(decoded); err != nil {
			return err
		}
		pictures := decoded.outputs[0].floats
		// The caller sees only the map, in which a NaN may have been lost.
		if err := engines.CheckFinite(decoder.graph, decoder.outputs[0].Name, pictures); err != nil {
			return err
		}
		half := len(pictures) / 2
		return n.run(engines.DINOGate, [][]float32{pictures[:half], pictures[half:]}, [][]float32{maps})
	})
}

// Reconstruct implements [engines.Networks].
func (n *Networks) Reconstruct(ctx context.Context, latents, images []float32) error {
	return n.call(ctx, func() error {
		return n.run(engines.VAEDecoder, [][]float32{latents}, [][]float32{images})
	})
}

// Score implements [engines.Networks].
func (n *Networks) Score(ctx context.Context, testImages, reconstructions, maps []float32) error {
	return n.call(ctx, func() error {
		return n.run(engines.DINOScore, [][]float32{testImages, reconstructions}, [][]float32{maps})
	})
}

// call runs one call of the networks while no other of them runs, when the
// processors have room for it.
func (n *Networks) call(ctx context.Context, run func() error) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if n.sessions == nil {
		return errClosed
	}
	if err := n.backend.Fault(); err != nil {
		return err
	}
	if err := n.backend.turn(ctx); err != nil {
		return err
	}
	defer n.backend.endTurn()
	return n.backend.gpu.judge(run()) //nolint:contextcheck // the driver is asked even if nobody waits any more
}

// run feeds a graph and copies its outputs to the caller's slices. The batch
// follows from the length of the first input.
func (n *Networks) run(name engines.GraphName, inputs, outputs [][]float32) error {
	session := n.sessions[name]
	bound, err := session.bind(len(inputs[0]) / session.inputs[0].Len())
	if err != nil {
		return err
	}
	for i, values := range inputs {
		if err := bound.inputs[i].set(session, i, values); err != nil {
			return err
		}
	}
	if err := session.run(bound); err != nil {
		return err
	}
	for i, values := range outputs {
		if err := bound.outputs[i].get(session, i, values); err != nil {
			return err
		}
	}
	return nil
}

func (n *Networks) latentLen() int {
	return n.sessions[engines.VAEDecoder].inputs[0].Len()
}

func (b buffer) set(session *session, index int, values []float32) error {
	if len(values) != len(b.floats) {
		return fmt.Errorf("%s: input %q: expected %d values, found %d", session.graph.Path, session.inputs[index].Name, len(b.floats), len(values))
	}
	copy(b.floats, values)
	return nil
}

// setInts sets an input of whole numbers, one a sample, whichever type the
// graph gave it.
func (b buffer) setInts(session *session, index int, values []int) error {
	if want := len(b.ints) + len(b.floats); len(values) != want {
		return fmt.Errorf("%s: input %q: expected %d values, found %d", session.graph.Path, session.inputs[index].Name, want, len(values))
	}
	for i, value := range values {
		if b.ints != nil {
			b.ints[i] = int64(value)
		} else {
			b.floats[i] = float32(value)
		}
	}
	return nil
}

func (b buffer) get(session *session, index int, values []float32) error {
	if len(values) != len(b.floats) {
		return fmt.Errorf("%s: output %q: expected room for %d values, found %d", session.graph.Path, session.outputs[index].Name, len(b.floats), len(values))
	}
	copy(values, b.floats)
	return nil
}
