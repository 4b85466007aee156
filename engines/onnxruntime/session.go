package onnxruntime

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"gladd/engines"
)

// session is one graph, loaded once, with buffers for every batch size that was
// asked for.
type session struct {
	graph           engines.Graph
	ort             *ort.DynamicAdvancedSession
	inputs, outputs []engines.Tensor
	bindings        map[int]*binding
}

// openSession loads a graph and checks it against the contract.
func openSession(bundle *engines.Bundle, name engines.GraphName, options *ort.SessionOptions) (s *session, err error) {
	graph := bundle.Graph(name)
	inputs, outputs, err := metadata(graph)
	if err != nil {
		return nil, err
	}
	s = &session{graph: graph, bindings: map[int]*binding{}}
	if s.inputs, s.outputs, err = bundle.Manifest.Bind(graph, inputs, outputs); err != nil {
		return nil, err
	}
	if s.ort, err = s.load(bundle, options); err != nil {
		return nil, err
	}
	// One shows that the graph runs, several that the batch is dynamic and that
	// no other dimension depends on it.
	several := 3
	if large(bundle) {
		several = 2
	}
	for _, batch := range []int{1, several} {
		if err := s.dryRun(batch); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// large says that a bundle's pictures are of the official networks' size, where
// the attention of a single picture takes a gigabyte.
func large(bundle *engines.Bundle) bool {
	return bundle.Manifest.Image.Width*bundle.Manifest.Image.Height >= 512*512
}

// load makes the session of the very bytes whose digest was checked. Weights
// beside the graph are found by the graph's path only: such a graph is checked
// once more, but it and its weights are read again by ONNX Runtime.
func (s *session) load(bundle *engines.Bundle, options *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
	data, err := bundle.ReadGraph(s.graph.Name)
	if err != nil {
		return nil, err
	}
	inputs, outputs := tensorNames(s.inputs), tensorNames(s.outputs)
	var opened *ort.DynamicAdvancedSession
	if bundle.HasExternalData(s.graph.Name) {
		opened, err = ort.NewDynamicAdvancedSession(s.graph.Path, inputs, outputs, options)
	} else {
		opened, err = ort.NewDynamicAdvancedSessionWithONNXData(data, inputs, outputs, options)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: ONNX Runtime cannot load the graph: %w", s.graph.Path, err)
	}
	return opened, nil
}

// metadata reads a graph's inputs and outputs, without the work of optimizing
// it.
func metadata(graph engines.Graph) (inputs, outputs []engines.Tensor, err error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, nil, err
	}
	defer options.Destroy()
	if err := options.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll); err != nil {
		return nil, nil, err
	}
	inputInfo, outputInfo, err := ort.GetInputOutputInfoWithOptions(graph.Path, options)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: ONNX Runtime cannot load the graph: %w", graph.Path, err)
	}
	return tensors(inputInfo), tensors(outputInfo), nil
}

func tensors(infos []ort.InputOutputInfo) []engines.Tensor {
	list := make([]engines.Tensor, len(infos))
	for i, info := range infos {
		elementType := strings.ToLower(strings.TrimPrefix(info.DataType.String(), "ONNX_TENSOR_ELEMENT_DATA_TYPE_"))
		list[i] = engines.Tensor{Name: info.Name, Type: elementType, Dimensions: info.Dimensions}
	}
	return list
}

func tensorNames(tensors []engines.Tensor) []string {
	names := make([]string, len(tensors))
	for i, tensor := range tensors {
		names[i] = tensor.Name
	}
	return names
}

// dryRun runs the graph on zeros and checks the shapes of its outputs.
func (s *session) dryRun(batch int) (err error) {
	var release []ort.Value
	defer func() {
		for _, value := range release {
			err = errors.Join(err, value.Destroy())
		}
	}()
	var pins runtime.Pinner
	defer pins.Unpin()
	inputs := make([]ort.Value, len(s.inputs))
	for i, input := range s.inputs {
		value, _, err := newTensor(input, batch, &pins)
		if err != nil {
			return fmt.Errorf("%s: dry run: %w", s.graph.Path, err)
		}
		inputs[i] = value
		release = append(release, value)
	}
	outputs := make([]ort.Value, len(s.outputs)) // nil: ONNX Runtime allocates them
	if err := s.ort.Run(inputs, outputs); err != nil {
		return fmt.Errorf("%s: dry run with a batch of %d: %w", s.graph.Path, batch, err)
	}
	release = append(release, outputs...)
	for i, output := range s.outputs {
		if err := engines.CheckOutput(s.graph, output, batch, outputs[i].GetShape()); err != nil {
			return err
		}
	}
	return nil
}

// buffer is the memory of one tensor, in one of the two types of the contract.
type buffer struct {
	floats []float32
	ints   []int64
}

// newTensor makes a tensor for a batch and returns the memory behind it, which
// is pinned: C keeps pointers to it for as long as the tensor lives.
func newTensor(tensor engines.Tensor, batch int, pins *runtime.Pinner) (ort.Value, buffer, error) {
	shape := append(ort.Shape{int64(batch)}, tensor.Dimensions[1:]...)
	if tensor.Type == "int64" {
		memory := make([]int64, shape.FlattenedSize())
		pins.Pin(&memory[0])
		value, err := ort.NewTensor(shape, memory)
		return value, buffer{ints: memory}, err
	}
	memory := make([]float32, shape.FlattenedSize())
	pins.Pin(&memory[0])
	value, err := ort.NewTensor(shape, memory)
	return value, buffer{floats: memory}, err
}

// binding ties a graph's inputs and outputs for one batch size to memory that
// is reused by every call.
type binding struct {
	ort             *ort.IoBinding
	values          []ort.Value
	inputs, outputs []buffer
	pins            runtime.Pinner // of the buffers
}

// bind returns the binding for a batch size.
func (s *session) bind(batch int) (*binding, error) {
	if bound := s.bindings[batch]; bound != nil {
		return bound, nil
	}
	if batch < 1 {
		return nil, fmt.Errorf("%s: expected a batch of at least 1, found %d", s.graph.Path, batch)
	}
	bound, err := s.newBinding(batch)
	if err != nil {
		return nil, fmt.Errorf("%s: buffers for a batch of %d: %w", s.graph.Path, batch, err)
	}
	s.bindings[batch] = bound
	return bound, nil
}

func (s *session) newBinding(batch int) (bound *binding, err error) {
	bound = &binding{}
	if bound.ort, err = s.ort.CreateIoBinding(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, bound.close())
			bound = nil
		}
	}()
	add := func(tensor engines.Tensor, bind func(string, ort.Value) error) (buffer, error) {
		value, memory, err := newTensor(tensor, batch, &bound.pins)
		if err != nil {
			return buffer{}, err
		}
		bound.values = append(bound.values, value)
		return memory, bind(tensor.Name, value)
	}
	for _, input := range s.inputs {
		memory, err := add(input, bound.ort.BindInput)
		if err != nil {
			return nil, err
		}
		bound.inputs = append(bound.inputs, memory)
	}
	for _, output := range s.outputs {
		memory, err := add(output, bound.ort.BindOutput)
		if err != nil {
			return nil, err
		}
		bound.outputs = append(bound.outputs, memory)
	}
	return bound, nil
}

func (b *binding) close() error {
	err := b.ort.Destroy()
	for _, value := range b.values {
		err = errors.Join(err, value.Destroy())
	}
	b.pins.Unpin()
	return err
}

// run calls the graph on what the binding's inputs hold.
func (s *session) run(bound *binding) error {
	if err := s.ort.RunWithBinding(bound.ort); err != nil {
		return fmt.Errorf("%s: %w", s.graph.Path, err)
	}
	return nil
}

func (s *session) close() error {
	var err error
	for _, bound := range s.bindings {
		err = errors.Join(err, bound.close())
	}
	s.bindings = nil
	return errors.Join(err, s.ort.Destroy())
}
