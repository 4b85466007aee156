package engines

import (
	"fmt"
	"slices"
	"strings"
)

// Tensor is an input or an output of a graph. A dimension of -1 is the batch,
// or is not known before the graph runs.
type Tensor struct {
	Name string
	// Type is the element type in ONNX's words: float, int64, ...
	Type       string
	Dimensions []int64
}

// Len is the number of elements of one sample. All dimensions must be known.
func (t Tensor) Len() int {
	product := 1
	for _, dimension := range t.Dimensions[1:] {
		product *= int(dimension)
	}
	return product
}

// signature is what the contract wants of one graph.
type signature struct {
	inputs, outputs []Tensor
}

// signature returns the inputs and outputs that a graph must have. Types are
// those of the contract; inputs that hold whole numbers may be int64 too.
func (m Manifest) signature(name GraphName) signature {
	float := func(name string, dimensions ...int) Tensor {
		tensor := Tensor{Name: name, Type: "float", Dimensions: []int64{-1}}
		for _, dimension := range dimensions {
			tensor.Dimensions = append(tensor.Dimensions, int64(dimension))
		}
		return tensor
	}
	image := func(name string) Tensor { return float(name, 3, m.Image.Height, m.Image.Width) }
	latent := func(name string) Tensor {
		return float(name, m.Latent.Channels, m.Latent.Height, m.Latent.Width)
	}
	pictures := []Tensor{image("test_image"), image("reconstructed_image")}
	switch name {
	case VAEEncoder:
		outputs := []Tensor{latent("latent_mean")}
		if m.Latent.Encode == EncodeSample {
			outputs = append(outputs, latent("latent_std"))
		}
		return signature{[]Tensor{image("image")}, outputs}
	case UNet:
		inputs := []Tensor{latent("sample"), float("timestep")}
		if len(m.Classes) > 0 {
			inputs = append(inputs, float("class_index"))
		}
		return signature{inputs, []Tensor{latent("eps")}}
	case VAEDecoder:
		return signature{[]Tensor{latent("latent")}, []Tensor{image("image")}}
	case DINOGate:
		return signature{pictures, []Tensor{float("anomaly_map", 1, m.Latent.Height, m.Latent.Width)}}
	case DINOScore:
		return signature{pictures, []Tensor{float("anomaly_map", 1, m.Score.MapSize, m.Score.MapSize)}}
	}
	panic("engines: no graph " + string(name))
}

// Inputs are those that a graph must have, by the contract.
func (m Manifest) Inputs(name GraphName) []Tensor { return m.signature(name).inputs }

// Bind checks a graph's inputs and outputs, as its metadata give them, against
// the contract. It returns those that the contract names, in the contract's
// order; the inputs' types are the graph's. Dimensions that the graph leaves
// open are settled by [CheckOutput].
func (m Manifest) Bind(graph Graph, inputs, outputs []Tensor) (boundInputs, boundOutputs []Tensor, err error) {
	wanted := m.signature(graph.Name)
	boundInputs, err = bind(graph, "input", wanted.inputs, inputs)
	if err != nil {
		return nil, nil, err
	}
	for _, found := range inputs {
		if !slices.ContainsFunc(wanted.inputs, named(found.Name)) {
			return nil, nil, fmt.Errorf("%s: input %q: not in the contract of %s, which has %s; nothing could be fed to it",
				graph.Path, found.Name, graph.Name, names(wanted.inputs))
		}
	}
	boundOutputs, err = bind(graph, "output", wanted.outputs, outputs)
	return boundInputs, boundOutputs, err
}

// bind finds the wanted tensors of one direction among those of a graph.
func bind(graph Graph, direction string, wanted, present []Tensor) ([]Tensor, error) {
	bound := make([]Tensor, len(wanted))
	for i, want := range wanted {
		at := slices.IndexFunc(present, named(want.Name))
		if at < 0 {
			return nil, fmt.Errorf("%s: %s %q: missing; expected %s, found %s", graph.Path, direction, want.Name, names(wanted), names(present))
		}
		found := present[at]
		allowed := []string{want.Type}
		if direction == "input" && len(want.Dimensions) == 1 {
			allowed = append(allowed, "int64") // a whole number a sample
		}
		if !slices.Contains(allowed, found.Type) {
			return nil, fmt.Errorf("%s: %s %q: expected element type %s, found %s", graph.Path, direction, want.Name, strings.Join(allowed, " or "), found.Type)
		}
		if err := checkDimensions(want.Dimensions, found.Dimensions); err != nil {
			return nil, fmt.Errorf("%s: %s %q: %w", graph.Path, direction, want.Name, err)
		}
		bound[i] = Tensor{Name: want.Name, Type: found.Type, Dimensions: want.Dimensions}
	}
	return bound, nil
}

// checkDimensions compares dimensions as far as both are known. The batch, the
// first, must be open.
func checkDimensions(want, found []int64) error {
	fits := len(found) == len(want) && found[0] < 0
	for i := 1; fits && i < len(want); i++ {
		fits = found[i] < 0 || found[i] == want[i]
	}
	if !fits {
		return fmt.Errorf("expected shape %s with a dynamic batch N, found %s", shape(want), shape(found))
	}
	return nil
}

// CheckOutput compares the shape that a graph returned for a batch with the
// contract's.
func CheckOutput(graph Graph, output Tensor, batch int, found []int64) error {
	want := slices.Clone(output.Dimensions)
	want[0] = int64(batch)
	if !slices.Equal(want, found) {
		return fmt.Errorf("%s: output %q: expected shape %s for a batch of %d, found %s", graph.Path, output.Name, shape(want), batch, shape(found))
	}
	return nil
}

func named(name string) func(Tensor) bool {
	return func(tensor Tensor) bool { return tensor.Name == name }
}

func names(tensors []Tensor) string {
	if len(tensors) == 0 {
		return "none"
	}
	list := make([]string, len(tensors))
	for i, tensor := range tensors {
		list[i] = tensor.Name
	}
	return strings.Join(list, ", ")
}

func shape(dimensions []int64) string {
	list := make([]string, len(dimensions))
	for i, dimension := range dimensions {
		switch {
		case dimension >= 0:
			list[i] = fmt.Sprint(dimension)
		case i == 0:
			list[i] = "N"
		default:
			list[i] = "?"
		}
	}
	return "[" + strings.Join(list, ",") + "]"
}
