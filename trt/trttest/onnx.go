package trttest

import (
	"google.golang.org/protobuf/encoding/protowire"

	"gladd/internal/onnx"
)

// What a graph of one node says of itself.
const elementFloat, onnxVersion, opset = 1, 8, 17

// value is a float tensor; a size below 0 is a dynamic dimension, named batch.
func value(name string, shape ...int64) []byte {
	var dimensions []byte
	for _, size := range shape {
		var dimension []byte
		if size < 0 {
			dimension = onnx.AppendText(nil, onnx.DimensionName, "batch")
		} else {
			dimension = onnx.AppendInteger(nil, onnx.DimensionValue, size)
		}
		dimensions = onnx.AppendMessage(dimensions, onnx.ShapeDimension, dimension)
	}
	tensor := onnx.AppendMessage(onnx.AppendInteger(nil, onnx.TensorTypeElem, elementFloat), onnx.TensorTypeShape, dimensions)
	return onnx.AppendMessage(onnx.AppendText(nil, onnx.InfoName, name), onnx.InfoType, onnx.AppendMessage(nil, onnx.TypeTensor, tensor))
}

// Graph is an ONNX file of one node named the_node, with one float input in and
// one float output out of the same shape; -1 is a dynamic dimension.
func Graph(operator string, shape ...int64) []byte {
	var node []byte
	for _, part := range []struct {
		number protowire.Number
		text   string
	}{{onnx.NodeInput, "in"}, {onnx.NodeOutput, "out"}, {onnx.NodeName, "the_node"}, {onnx.NodeOperator, operator}} {
		node = onnx.AppendText(node, part.number, part.text)
	}
	graph := onnx.AppendText(onnx.AppendMessage(nil, onnx.GraphNode, node), onnx.GraphName, "graph")
	graph = onnx.AppendMessage(onnx.AppendMessage(graph, onnx.GraphInput, value("in", shape...)), onnx.GraphOutput, value("out", shape...))
	model := onnx.AppendInteger(nil, onnx.ModelIRVersion, onnxVersion)
	model = onnx.AppendMessage(model, onnx.ModelGraph, graph)
	return onnx.AppendMessage(model, onnx.ModelOpset, onnx.AppendInteger(nil, onnx.OpsetVersion, opset))
}

// Inputs reads the names and shapes of an ONNX file's inputs; -1 is a dynamic
// dimension. What is no ONNX file has none.
func Inputs(file []byte) map[string][]int64 {
	inputs := map[string][]int64{}
	for _, input := range within(file, onnx.ModelGraph, onnx.GraphInput) {
		var name string
		for _, text := range within(input, onnx.InfoName) {
			name = string(text)
		}
		shape := []int64{}
		for _, dimension := range within(input, onnx.InfoType, onnx.TypeTensor, onnx.TensorTypeShape, onnx.ShapeDimension) {
			size := int64(-1)
			for field, err := range onnx.Fields(dimension) {
				if err == nil && field.Is(onnx.DimensionValue, protowire.VarintType) {
					size = int64(field.Scalar)
				}
			}
			shape = append(shape, size)
		}
		inputs[name] = shape
	}
	return inputs
}

// within are the contents of all fields at the end of a path of field numbers.
func within(message []byte, path ...protowire.Number) [][]byte {
	if len(path) == 0 {
		return [][]byte{message}
	}
	var contents [][]byte
	for field, err := range onnx.Fields(message) {
		if err == nil && field.Message(path[0]) {
			contents = append(contents, within(field.Bytes, path[1:]...)...)
		}
	}
	return contents
}
