package tensorrt

import (
	"errors"
	"fmt"

	"gladd/engines"
	"gladd/trt"
	"gladd/trt/cuda"
)

// routineCalls are the calls of the networks, in the order of their use.
var routineCalls = []string{"encode", "predict noise", "compare", "reconstruct", "score"}

// routine is everything that a call for one part does on the GPU: values to it, engines
// one after the other, values back. It is launched as one CUDA graph where that can
// be.
type routine struct {
	call      string
	uploads   []transfer
	engines   []*trt.Context
	downloads []transfer

	ran   bool        // once at least: what happens once only is done
	plain bool        // no graph: it could not be captured, or is not wanted
	graph *cuda.Graph // nil: not captured yet
}

// transfer moves the first values of a tensor, or those from a sample on.
type transfer struct {
	tensor *tensor
	name   string // of the network's input or output
	from   int    // sample
	count  int    // samples
}

func (t transfer) bytes() int { return t.count * t.tensor.sample }

// routine returns a call's routine, which is made when it is first wanted.
func (l *loaded) routine(call string) (*routine, error) {
	if made := l.routines[call]; made != nil {
		return made, nil
	}
	made := &routine{call: call, plain: l.backend.options.PlainLaunches}
	add := func(name engines.GraphName, batch int) error {
		context, err := l.context(name, batch)
		made.engines = append(made.engines, context)
		return err
	}
	in := func(name engines.GraphName) {
		for _, input := range l.networks[name].inputs {
			made.uploads = append(made.uploads, transfer{l.tensors[place(name, input.Name)], input.Name, 0, 1})
		}
	}
	out := func(name engines.GraphName) {
		for _, output := range l.networks[name].outputs {
			if output.Name != energyOutput {
				made.downloads = append(made.downloads, transfer{l.tensors[place(name, output.Name)], output.Name, 0, 1})
			}
		}
	}
	alone := func(name engines.GraphName) error {
		in(name)
		out(name)
		return add(name, 1)
	}
	var err error
	switch call {
	case "encode":
		err = alone(engines.VAEEncoder)
	case "predict noise":
		err = alone(engines.UNet)
	case "reconstruct":
		err = alone(engines.VAEDecoder)
	case "score":
		err = alone(engines.DINOScore)
	case "compare":
		latents := l.tensors[place(engines.VAEDecoder, "latent")]
		made.uploads = []transfer{{latents, "latent", 0, 1}, {latents, "latent", 1, 1}}
		made.downloads = []transfer{{l.tensors[place(engines.VAEDecoder, energyOutput)], energyOutput, 0, 2}}
		out(engines.DINOGate)
		err = errors.Join(add(engines.VAEDecoder, 2), add(engines.DINOGate, 1))
	default:
		panic("tensorrt: no call " + call)
	}
	if err != nil {
		return nil, err
	}
	l.routines[call] = made
	return made, nil
}

// set copies a call's inputs to where the GPU reads them, and makes sure that its
// outputs have room.
func (r *routine) set(inputs []feed, outputs [][]float32) error {
	for i, upload := range r.uploads {
		if err := upload.set(inputs[i]); err != nil {
			return err
		}
	}
	for i, download := range r.downloads {
		if want := download.bytes() / 4; len(outputs[i]) != want {
			return fmt.Errorf("output %q: expected room for %d values, found %d", download.name, want, len(outputs[i]))
		}
	}
	return nil
}

func (t transfer) set(input feed) error {
	width, host := width(t.tensor.kind), t.tensor.host
	if size, found := t.bytes()/width, len(input.floats)+len(input.ints); found != size {
		return fmt.Errorf("input %q: expected %d values, found %d", t.name, size, found)
	}
	first := t.from * t.tensor.sample / width
	switch {
	case t.tensor.kind == wide:
		setInts(host.Int64s()[first:], input.ints)
	case t.tensor.kind == narrow:
		setInts(host.Int32s()[first:], input.ints)
	case input.ints != nil:
		setInts(host.Float32s()[first:], input.ints)
	default:
		copy(host.Float32s()[first:], input.floats)
	}
	return nil
}

func setInts[N int64 | int32 | float32](to []N, values []int) {
	for i, value := range values {
		to[i] = N(value)
	}
}

// results are what the last run gave; they are valid until the next.
func (r *routine) results() [][]float32 {
	results := make([][]float32, len(r.downloads))
	for i, download := range r.downloads {
		start := download.from * download.tensor.sample
		results[i] = download.tensor.host.Float32s()[start/4 : (start+download.bytes())/4]
	}
	return results
}

// example sets the inputs to made-up values, others for another seed. Single
// numbers, timesteps and classes, are 0, which every model has.
func (r *routine) example(seed int) {
	for _, up := range r.uploads {
		first, last := up.from*up.tensor.sample, up.from*up.tensor.sample+up.bytes()
		clear(up.tensor.host.Bytes()[first:last])
		if up.tensor.kind != "float" || up.tensor.sample == 4 {
			continue
		}
		for i := first / 4; i < last/4; i++ {
			up.tensor.host.Float32s()[i] = float32((i*7919+seed*104729)%2001-1000) / 1000
		}
	}
}

// run does a routine's work and waits for it: as a CUDA graph, which is captured when
// the engines have run once.
func (l *loaded) run(thread *cuda.Thread, r *routine) error {
	if r.ran && !r.plain && r.graph == nil {
		graph, err := l.capture(thread, r)
		if err != nil && thread.Device().Lost() == nil {
			// What another thread does in the context meanwhile, as a build, may spoil one.
			l.backend.log.Debug("a CUDA graph was not captured; it is tried once more", "call", r.call, "error", err)
			graph, err = l.capture(thread, r)
		}
		switch {
		case err == nil:
			r.graph = graph
		case thread.Device().Lost() != nil:
			return err
		default:
			l.backend.log.Warn("no CUDA graph: its engines are launched one by one, which is slower", "call", r.call, "error", err)
			r.plain = true
		}
	}
	if r.graph == nil {
		return l.plainly(thread, r)
	}
	return l.finish(r.graph.Launch(l.stream))
}

// capture makes a CUDA graph of a routine's work. Nothing of it runs yet.
func (l *loaded) capture(thread *cuda.Thread, r *routine) (*cuda.Graph, error) {
	return thread.Capture(l.stream, func() error { return l.enqueue(thread, r) })
}

// plainly does a routine's work engine by engine.
func (l *loaded) plainly(thread *cuda.Thread, r *routine) error {
	err := l.finish(l.enqueue(thread, r))
	r.ran = r.ran || err == nil
	return err
}

// finish waits for what was launched, even where launching failed: TensorRT keeps
// the driver's error to itself, and waiting shows whether the GPU is lost.
func (l *loaded) finish(launched error) error {
	waited := l.stream.Synchronize()
	if launched != nil {
		return launched
	}
	return waited
}

// enqueue puts a routine's work into the stream.
func (l *loaded) enqueue(thread *cuda.Thread, r *routine) error {
	if err := l.upload(thread, r); err != nil {
		return err
	}
	for _, context := range r.engines {
		if err := context.Enqueue(l.stream.Handle()); err != nil {
			return err
		}
	}
	return l.download(thread, r)
}

func (l *loaded) upload(thread *cuda.Thread, r *routine) error {
	for _, up := range r.uploads {
		offset := up.from * up.tensor.sample
		if err := thread.CopyToDevice(up.tensor.device, offset, up.tensor.host, offset, up.bytes(), l.stream); err != nil {
			return err
		}
	}
	return nil
}

func (l *loaded) download(thread *cuda.Thread, r *routine) error {
	for _, down := range r.downloads {
		offset := down.from * down.tensor.sample
		if err := thread.CopyToHost(down.tensor.host, offset, down.tensor.device, offset, down.bytes(), l.stream); err != nil {
			return err
		}
	}
	return nil
}
