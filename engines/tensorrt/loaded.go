package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"gladd/engines"
	"gladd/trt"
	"gladd/trt/cuda"
)

// loaded is a bundle's networks on the GPU. All of it is used on the device's
// thread.
type loaded struct {
	backend *Backend
	bundle  *engines.Bundle

	networks map[engines.GraphName]*network
	stream   *cuda.Stream
	tensors  map[string]*tensor
	routines map[string]*routine
	proofs   map[string][]float32 // by call: what it gave for the first example
}

// network is one engine.
type network struct {
	graph   engines.Graph
	engine  *trt.Engine
	inputs  []engines.Tensor // in the contract's order
	outputs []engines.Tensor
	// A context belongs to one batch size: a CUDA graph remembers the state of the
	// context that it was captured from.
	contexts map[int]*trt.Context
	entry    Entry // of the plan
	compiled map[int]*compiled
}

// tensor is memory that engines read and write, and its page-locked counterpart.
type tensor struct {
	device *cuda.Memory
	host   *cuda.Pinned
	sample int    // bytes of one sample
	kind   string // of its values, as ONNX names it: float, int64 or int32
}

// width of a value of a kind, in bytes.
func width(kind string) int {
	if kind == wide {
		return 8
	}
	return 4
}

// The kinds of whole numbers.
const (
	wide   = "int64"
	narrow = "int32"
)

// readyTimeout is how long first calls may take, in which the driver loads the
// engines' code.
const readyTimeout = 5 * time.Minute

// load reads a bundle's engines from the cache and makes everything that its calls
// need, so that nothing is left to be allocated by the first part. The caller has
// the turn.
func (b *Backend) load(ctx context.Context, bundle *engines.Bundle) (*loaded, error) {
	made := &loaded{
		backend: b, bundle: bundle,
		networks: map[engines.GraphName]*network{}, tensors: map[string]*tensor{}, routines: map[string]*routine{}, proofs: map[string][]float32{},
	}
	if err := made.fill(ctx); err != nil {
		return nil, errors.Join(err, b.device.Do(context.WithoutCancel(ctx), "free the engines", func(*cuda.Thread) error {
			return errors.Join(made.free(), b.freeScratch())
		}))
	}
	return made, nil
}

func (l *loaded) fill(ctx context.Context) error {
	device := l.backend.device
	for _, name := range engines.GraphNames {
		plan, entry, err := l.backend.plan(l.backend.Key(l.bundle, name))
		if err != nil {
			return err
		}
		err = device.DoWithin(ctx, "load the engine of "+string(name), readyTimeout, func(*cuda.Thread) error { return l.add(name, entry, plan) })
		if err != nil {
			return err
		}
	}
	return device.DoWithin(ctx, "make the engines ready", readyTimeout, func(thread *cuda.Thread) error {
		if err := l.allocate(thread); err != nil {
			return err
		}
		if err := l.warmUp(thread); err != nil {
			return err
		}
		return l.keepKernels()
	})
}

// add loads an engine and checks what it takes and gives.
func (l *loaded) add(name engines.GraphName, entry Entry, plan []byte) error {
	graph := l.bundle.Graph(name)
	engine, err := l.backend.runtime.Deserialize(plan)
	var refused *trt.PlanError
	if errors.As(err, &refused) && (refused.Reason == trt.ReasonVersion || refused.Reason == trt.ReasonGPU || refused.Reason == trt.ReasonCorrupt) {
		return &planRefusedError{graph, name, entry, refused}
	}
	if err != nil {
		return fmt.Errorf("%s: engine of %s: %w", graph.Path, name, err)
	}
	added := &network{graph: graph, engine: engine, contexts: map[int]*trt.Context{}, entry: entry, compiled: map[int]*compiled{}}
	l.networks[name] = added
	var inputs, outputs []engines.Tensor
	narrowed := map[string]bool{}
	for _, each := range engine.Tensors() {
		found := engines.Tensor{Name: each.Name, Type: each.Type, Dimensions: slices.Clone(each.Shape)}
		if each.Input {
			// 8.x has no INT64: it takes such inputs of a graph as INT32.
			if each.Type == narrow {
				found.Type, narrowed[each.Name] = wide, true
			}
			inputs = append(inputs, found)
		} else {
			outputs = append(outputs, found)
		}
	}
	// TensorRT may know that the batch is 1.
	for _, list := range [][]engines.Tensor{inputs, outputs} {
		for _, each := range list {
			if len(each.Dimensions) > 0 && each.Dimensions[0] == 1 && most(name) == 1 {
				each.Dimensions[0] = -1
			}
		}
	}
	if added.inputs, added.outputs, err = l.bundle.Manifest.Bind(graph, inputs, outputs); err != nil {
		return err
	}
	for i := range added.inputs {
		if narrowed[added.inputs[i].Name] {
			added.inputs[i].Type = narrow
		}
	}
	if name == engines.VAEDecoder {
		at := slices.IndexFunc(outputs, func(each engines.Tensor) bool { return each.Name == energyOutput })
		if at < 0 {
			return fmt.Errorf("%s: engine of %s: expected output %q, found none; build it again: gladd engines build --anew", graph.Path, name, energyOutput)
		}
		added.outputs = append(added.outputs, engines.Tensor{Name: energyOutput, Type: "float", Dimensions: []int64{-1}})
	}
	if found, want := engine.Profiles(), len(batches(name)); found != want {
		return fmt.Errorf("%s: engine of %s: expected %d optimization profiles, found %d; build it again: gladd engines build --anew", graph.Path, name, want, found)
	}
	return nil
}

// place is where a network's tensor lives. Networks that hand one to the next share
// it: the gate reads the pictures where the decoder put them.
func place(network engines.GraphName, name string) string {
	switch {
	case network == engines.VAEDecoder && name == "image":
		return "decoded"
	case network == engines.VAEEncoder && name == "image", network == engines.DINOScore && name == "test_image":
		return "picture"
	}
	return string(network) + "." + name
}

func (l *loaded) allocate(thread *cuda.Thread) (err error) {
	if l.stream, err = thread.NewStream(); err != nil {
		return err
	}
	scratch := int64(1)
	for _, name := range engines.GraphNames {
		added := l.networks[name]
		scratch = max(scratch, added.engine.DeviceMemory())
		for _, each := range slices.Concat(added.inputs, added.outputs) {
			at := place(name, each.Name)
			if name == engines.DINOGate && each.Name != "anomaly_map" || l.tensors[at] != nil {
				continue // the decoder's
			}
			made := &tensor{kind: each.Type, sample: width(each.Type) * each.Len()}
			bytes := most(name) * made.sample
			l.tensors[at] = made
			if made.device, err = thread.Alloc(bytes); err != nil {
				return fmt.Errorf("%s: memory for %s: %w", added.graph.Path, each.Name, err)
			}
			if made.host, err = thread.AllocPinned(bytes); err != nil {
				return fmt.Errorf("%s: memory for %s: %w", added.graph.Path, each.Name, err)
			}
		}
	}
	return l.backend.growScratch(thread, int(scratch))
}

// context of a network for a batch, with all addresses set.
func (l *loaded) context(name engines.GraphName, batch int) (*trt.Context, error) {
	network := l.networks[name]
	if context := network.contexts[batch]; context != nil {
		return context, nil
	}
	profile := slices.Index(batches(name), batch)
	if profile < 0 {
		return nil, fmt.Errorf("%s: expected a batch of %v, found %d", network.graph.Path, batches(name), batch)
	}
	context, err := l.newContext(name, batch)
	if err != nil {
		return nil, err
	}
	if err := l.bind(network, context, name, profile, batch); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: engine of %s for a batch of %d: %w", network.graph.Path, name, batch, err), context.Close())
	}
	network.contexts[batch] = context
	return context, nil
}

func (l *loaded) bind(network *network, context *trt.Context, name engines.GraphName, profile, batch int) error {
	if err := context.SetProfile(profile, l.stream.Handle()); err != nil {
		return err
	}
	if err := l.stream.Synchronize(); err != nil {
		return err
	}
	if err := l.compute(context); err != nil {
		return err
	}
	for _, input := range network.inputs {
		shape := append([]int64{int64(batch)}, input.Dimensions[1:]...)
		if err := context.SetInputShape(input.Name, shape); err != nil {
			return err
		}
	}
	for _, each := range slices.Concat(network.inputs, network.outputs) {
		address, err := l.address(name, each, batch)
		if err != nil {
			return err
		}
		if err := context.SetAddress(each.Name, address); err != nil {
			return err
		}
	}
	for _, output := range network.outputs {
		shape, err := context.OutputShape(output.Name)
		if err != nil {
			return err
		}
		if err := engines.CheckOutput(network.graph, output, batch, shape); err != nil {
			return err
		}
	}
	return nil
}

// addressAlignment in bytes is what TensorRT needs.
const addressAlignment = 256

// address of a network's tensor in a call for a batch. The gate's two pictures are
// the first and the second half of what the decoder gave for twice the batch.
func (l *loaded) address(name engines.GraphName, each engines.Tensor, batch int) (uintptr, error) {
	if name != engines.DINOGate || each.Name == "anomaly_map" {
		return l.tensors[place(name, each.Name)].device.Address(), nil
	}
	decoded := l.tensors[place(engines.VAEDecoder, "image")]
	address := decoded.device.Address()
	if each.Name == "reconstructed_image" {
		address += uintptr(batch * decoded.sample)
	}
	if address%addressAlignment != 0 {
		return 0, fmt.Errorf("pictures of %d bytes: expected a multiple of %d, which a width and a height of multiples of 8 give", decoded.sample, addressAlignment)
	}
	return address, nil
}

// warmUp runs every call for one part, so that what TensorRT and the driver do once
// is done, and captures its CUDA graph. The graph must give what the engines gave
// one by one, to the last bit: one that left work out would give what an earlier
// part left behind.
func (l *loaded) warmUp(thread *cuda.Thread) error {
	for _, call := range routineCalls {
		routine, err := l.routine(call)
		if err == nil {
			err = l.proveGraph(thread, routine)
		}
		if err != nil {
			return fmt.Errorf("warm up: %s: %w", call, err)
		}
	}
	return nil
}

func (l *loaded) proveGraph(thread *cuda.Thread, r *routine) error {
	r.example(1)
	if err := l.plainly(thread, r); err != nil {
		return err
	}
	want := bits(r.results())
	l.proofs[r.call] = slices.Concat(r.results()...)
	r.example(2) // all that was left behind is of another part now
	if err := l.plainly(thread, r); err != nil {
		return err
	}
	r.example(1)
	if err := l.run(thread, r); err != nil {
		return err
	}
	if r.graph == nil || slices.Equal(want, bits(r.results())) {
		return nil
	}
	l.backend.log.Warn("a CUDA graph gives something else than its engines: they are launched one by one, which is slower", "call", r.call)
	r.plain = true
	graph := r.graph
	r.graph = nil
	return graph.Free()
}

// bits of all values, one after the other.
func bits(results [][]float32) (all []uint32) {
	for _, result := range results {
		for _, value := range result {
			all = append(all, math.Float32bits(value))
		}
	}
	return all
}

// free gives everything back, the last first.
func (l *loaded) free() error {
	var errs []error
	for _, routine := range l.routines {
		errs = append(errs, routine.graph.Free())
	}
	for _, network := range l.networks {
		for _, context := range network.contexts {
			errs = append(errs, context.Close())
		}
		errs = append(errs, network.engine.Close())
	}
	for _, tensor := range l.tensors {
		errs = append(errs, tensor.device.Free(), tensor.host.Free())
	}
	if l.stream != nil {
		errs = append(errs, l.stream.Free())
	}
	return errors.Join(errs...)
}
