package mixed

import (
	"math"
	"testing"

	ort "github.com/yalue/onnxruntime_go"

	"gladd/engines/enginetest"
	"gladd/internal/onnx"
)

// array is a tensor for ONNX Runtime.
type array struct {
	shape  []int64
	floats []float32
	ints   []int64 // instead of floats
}

// run runs a model in ONNX Runtime, whose environment must be there.
func run(t testing.TB, model []byte, inputs map[string]array) map[string]array {
	t.Helper()
	outputs, err := tryRun(model, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}

func tryRun(model []byte, inputs map[string]array) (map[string]array, error) {
	inputInfo, outputInfo, err := ort.GetInputOutputInfoWithONNXData(model)
	if err != nil {
		return nil, err
	}
	var inputNames, outputNames []string
	var inputValues []ort.Value
	for _, info := range inputInfo {
		input := inputs[info.Name]
		var value ort.Value
		if input.ints != nil {
			value, err = ort.NewTensor(input.shape, input.ints)
		} else {
			value, err = ort.NewTensor(input.shape, input.floats)
		}
		if err != nil {
			return nil, err
		}
		defer value.Destroy() //nolint:errcheck // memory of a test
		inputNames, inputValues = append(inputNames, info.Name), append(inputValues, value)
	}
	for _, info := range outputInfo {
		outputNames = append(outputNames, info.Name)
	}
	session, err := ort.NewDynamicAdvancedSessionWithONNXData(model, inputNames, outputNames, nil)
	if err != nil {
		return nil, err
	}
	defer session.Destroy() //nolint:errcheck // memory of a test
	outputValues := make([]ort.Value, len(outputNames))
	if err := session.Run(inputValues, outputValues); err != nil {
		return nil, err
	}
	outputs := map[string]array{}
	for i, value := range outputValues {
		found := array{shape: value.GetShape()}
		switch tensor := value.(type) {
		case *ort.Tensor[float32]:
			found.floats = append(found.floats, tensor.GetData()...)
		case *ort.Tensor[int64]:
			found.ints = append(found.ints, tensor.GetData()...)
		case *ort.Tensor[float64]:
			for _, value := range tensor.GetData() {
				found.floats = append(found.floats, float32(value))
			}
		}
		outputs[outputNames[i]] = found
		defer value.Destroy() //nolint:errcheck // memory of a test
	}
	return outputs, nil
}

// difference is the largest between the outputs, by the largest value of the
// output that is expected. NaN equals NaN.
func difference(t testing.TB, want, found map[string]array) float64 {
	t.Helper()
	if len(want) != len(found) {
		t.Fatalf("expected %d outputs, found %d", len(want), len(found))
	}
	worst := 0.0
	for name, expected := range want {
		if len(expected.floats) != len(found[name].floats) {
			t.Fatalf("output %q: expected %v, found %v", name, expected.shape, found[name].shape)
		}
		scale, largest := 0.0, 0.0
		for i, value := range expected.floats {
			a, b := float64(value), float64(found[name].floats[i])
			if math.IsNaN(a) && math.IsNaN(b) || a == b {
				continue
			}
			if math.IsNaN(a) || math.IsNaN(b) || math.IsInf(b, 0) {
				t.Fatalf("output %q at %d: expected %v, found %v", name, i, a, b)
			}
			largest = max(largest, math.Abs(a-b))
		}
		for _, value := range expected.floats {
			if !math.IsNaN(float64(value)) && !math.IsInf(float64(value), 0) {
				scale = max(scale, math.Abs(float64(value)))
			}
		}
		if largest > 0 {
			worst = max(worst, largest/scale)
		}
	}
	return worst
}

// rounding returns a graph that computes what a converted one does on a GPU.
// ONNX Runtime computes FP16 nodes of its CPU provider in FP32 and leaves out
// the rounding between them. Here every FP16 value is float32 and goes through
// Cast to FP16 and back once, which ONNX Runtime keeps. Sums within a node are
// FP32, as TensorRT's are as a rule.
func rounding(t testing.TB, converted []byte) []byte {
	t.Helper()
	fields, g, err := parseModel(converted)
	if err != nil {
		t.Fatal(err)
	}
	c := &converter{graph: g}
	if err := c.values(); err != nil {
		t.Fatal(err)
	}
	isHalf := func(name string) bool { return name != "" && c.table[name].kind == float16s }
	var nodes [][]byte
	cast := func(from, to string, kind elementType) {
		node := onnx.AppendText(onnx.AppendText(nil, onnx.NodeInput, from), onnx.NodeOutput, to)
		nodes = append(nodes, onnx.AppendMessage(onnx.AppendText(node, onnx.NodeOperator, "Cast"), onnx.NodeAttribute, integer("to", int64(kind))))
	}
	widen := func(name string) { cast(name+"__half", name, float32s) }
	round := func(name string) {
		cast(name+"__exact", name+"__half", float16s)
		widen(name)
	}
	for _, tensor := range g.initializers {
		if tensor.kind == float16s {
			widen(tensor.name)
		}
	}
	for _, n := range g.nodes {
		constant := n.op == "Constant" || n.op == "ConstantOfShape" || n.op == "Cast"
		var message []byte
		var after []string
		for _, f := range n.fields {
			if name := string(f.Bytes); f.Message(onnx.NodeOutput) && isHalf(name) {
				after = append(after, name)
				suffix := "__exact"
				if constant {
					suffix = "__half"
				}
				message = onnx.AppendText(message, onnx.NodeOutput, name+suffix)
			} else {
				message = append(message, f.Raw...)
			}
		}
		nodes = append(nodes, message)
		for _, name := range after {
			if constant {
				widen(name)
			} else {
				round(name)
			}
		}
	}
	graph := []byte(nil)
	tensor := 0
	for _, node := range nodes {
		graph = onnx.AppendMessage(graph, onnx.GraphNode, node)
	}
	for _, f := range g.fields {
		switch {
		case f.Message(onnx.GraphNode), f.Message(onnx.GraphValueInfo):
		case f.Message(onnx.GraphInitializer) && g.initializers[tensor].kind == float16s:
			var message []byte
			for _, f := range g.initializers[tensor].fields {
				if f.Message(onnx.TensorName) {
					message = onnx.AppendText(message, onnx.TensorName, string(f.Bytes)+"__half")
				} else {
					message = append(message, f.Raw...)
				}
			}
			graph = onnx.AppendMessage(graph, onnx.GraphInitializer, message)
			tensor++
		default:
			if f.Message(onnx.GraphInitializer) {
				tensor++
			}
			graph = append(graph, f.Raw...)
		}
	}
	var out []byte
	for _, f := range fields {
		if f.Message(onnx.ModelGraph) {
			out = onnx.AppendMessage(out, onnx.ModelGraph, graph)
		} else {
			out = append(out, f.Raw...)
		}
	}
	return out
}

// convert converts a model that must be convertible, twice: the bytes must be
// the same.
func convert(t testing.TB, model []byte, options Options) ([]byte, Report) {
	t.Helper()
	converted, report, err := Convert(model, options)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := Convert(model, options)
	if err != nil || enginetest.Digest(again) != enginetest.Digest(converted) {
		t.Fatalf("converted twice: the bytes differ, %v", err)
	}
	return converted, report
}
