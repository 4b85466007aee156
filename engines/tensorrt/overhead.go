package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gladd/engines"
	"gladd/trt"
	"gladd/trt/cuda"
)

// Overhead is what a call for one part costs around its engines, in milliseconds:
// medians. All but the last are measured by the GPU's own clock (CUDA events), many
// of a kind in a row.
type Overhead struct {
	Call   string
	Bare   float64 // the engines alone, enqueued by a loop in C
	Copies float64 // to and from the GPU, alone
	Graph  float64 // as CUDA graph, with the copies; 0: there is none
	Plain  float64 // engine by engine, with the copies
	Whole  float64 // the call of [engines.Networks], as the pipeline makes it, from outside
}

// The most that a call may take beside its engines and copies alone: as the GPU's
// clock sees it, and from outside.
const (
	BarEvents = 1.02
	BarWhole  = 1.05
)

// Events is what the call takes on the GPU, the way that it is run, as a share of its
// engines and copies alone.
func (o Overhead) Events() float64 {
	if o.Graph > 0 {
		return o.Graph / (o.Bare + o.Copies)
	}
	return o.Plain / (o.Bare + o.Copies)
}

// EndToEnd is what the call takes from outside, as a share of its engines and copies
// alone.
func (o Overhead) EndToEnd() float64 { return o.Whole / (o.Bare + o.Copies) }

// Passes says whether both are within their bars.
func (o Overhead) Passes() bool { return o.Events() <= BarEvents && o.EndToEnd() <= BarWhole }

// Memory is the GPU's, in bytes.
type Memory struct{ Free, Total uint64 }

// inARow is how many of a kind are measured together, so that the time which the first
// one's launch takes does not count.
const inARow = 10

// Overheads measures all calls, so many times each, rounded up to whole rows.
func (n *Networks) Overheads(ctx context.Context, rounds int) ([]Overhead, Memory, error) {
	var all []Overhead
	var memory Memory
	for _, call := range routineCalls {
		measured := Overhead{Call: call}
		err := n.backend.exclusively(ctx, func() error {
			if err := n.load(ctx); err != nil {
				return err
			}
			timeout := readyTimeout // for all rounds together
			return n.backend.device.DoWithin(ctx, "measure "+call, timeout, func(thread *cuda.Thread) (err error) {
				if memory.Free, memory.Total, err = thread.MemoryInfo(); err != nil {
					return err
				}
				return n.loaded.measure(thread, &measured, rounds)
			})
		})
		if err != nil {
			return nil, Memory{}, fmt.Errorf("measure %s: %w", call, err)
		}
		if measured.Whole, err = n.whole(ctx, call, rounds); err != nil {
			return nil, Memory{}, err
		}
		all = append(all, measured)
	}
	return all, memory, nil
}

func (l *loaded) measure(thread *cuda.Thread, measured *Overhead, rounds int) error {
	routine, err := l.routine(measured.Call)
	if err != nil {
		return err
	}
	begin, err := thread.NewEvent(true)
	if err != nil {
		return err
	}
	defer begin.Free() //nolint:errcheck // the device's end frees it, too
	end, err := thread.NewEvent(true)
	if err != nil {
		return err
	}
	defer end.Free() //nolint:errcheck // as above
	repeated := func(run func() error) func() error {
		return func() error {
			for range inARow {
				if err := run(); err != nil {
					return err
				}
			}
			return nil
		}
	}
	ways := []struct {
		median *float64
		run    func() error
	}{
		{&measured.Bare, func() error { return trt.Repeat(routine.engines, l.stream.Handle(), inARow) }},
		{&measured.Copies, repeated(func() error { return errors.Join(l.upload(thread, routine), l.download(thread, routine)) })},
		{&measured.Plain, repeated(func() error { return l.enqueue(thread, routine) })},
		{&measured.Graph, repeated(func() error { return routine.graph.Launch(l.stream) })},
	}
	if routine.graph == nil {
		ways = ways[:3]
	}
	times := make([][]float64, len(ways))
	for row := range (rounds + inARow - 1) / inARow {
		for i := range ways {
			if row%2 == 1 {
				i = len(ways) - 1 - i // what changes meanwhile changes all alike
			}
			took, err := l.timed(begin, end, ways[i].run)
			if err != nil {
				return err
			}
			times[i] = append(times[i], took/inARow)
		}
	}
	for i, way := range ways {
		*way.median = median(times[i])
	}
	return nil
}

// timed is how long the GPU works on what is enqueued, in milliseconds.
func (l *loaded) timed(begin, end *cuda.Event, enqueue func() error) (float64, error) {
	if err := begin.Record(l.stream); err != nil {
		return 0, err
	}
	if err := enqueue(); err != nil {
		return 0, err
	}
	if err := end.Record(l.stream); err != nil {
		return 0, err
	}
	if err := end.Synchronize(); err != nil {
		return 0, err
	}
	return end.ElapsedMilliseconds(begin)
}

// whole measures a call from outside.
func (n *Networks) whole(ctx context.Context, call string, rounds int) (float64, error) {
	image, latent := n.sizes()
	m := n.bundle.Manifest
	images, latents := make([]float32, image), make([]float32, latent)
	otherImages, otherLatents, std := make([]float32, image), make([]float32, latent), make([]float32, latent)
	maps := make([]float32, max(m.Latent.Width*m.Latent.Height, m.Score.MapSize*m.Score.MapSize))
	if m.Latent.Encode != engines.EncodeSample {
		std = nil
	}
	run := map[string]func() error{
		"encode":        func() error { return n.Encode(ctx, images, otherLatents, std) },
		"predict noise": func() error { return n.PredictNoise(ctx, latents, []int{m.Denoise.Step}, []int{0}, otherLatents) },
		"compare":       func() error { return n.Compare(ctx, latents, latents, maps[:m.Latent.Width*m.Latent.Height]) },
		"reconstruct":   func() error { return n.Reconstruct(ctx, latents, otherImages) },
		"score":         func() error { return n.Score(ctx, images, images, maps[:m.Score.MapSize*m.Score.MapSize]) },
	}[call]
	var times []float64
	for range rounds {
		began := time.Now()
		if err := run(); err != nil {
			return 0, err
		}
		times = append(times, float64(time.Since(began))/float64(time.Millisecond))
	}
	return median(times), nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
