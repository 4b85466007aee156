package trttest

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// ONNX's field numbers and constants are those of onnx.proto, version 8 of the
// format.
const (
	modelIRVersion, modelGraph, modelOpset                     = 1, 7, 8
	opsetVersion                                               = 2
	graphNode, graphName, graphInput, graphOutput              = 1, 2, 11, 12
	nodeInput, nodeOutput, nodeName, nodeOperator              = 1, 2, 3, 4
	valueName, valueType                                       = 1, 2
	typeTensor, tensorElement, tensorShape, shapeDimension     = 1, 1, 2, 1
	dimensionValue, dimensionName                              = 1, 2
	elementFloat, onnxVersion, opset                       int = 1, 8, 17
)

func field(message []byte, number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, number, protowire.BytesType), content)
}

func number(field protowire.Number, value int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), uint64(value))
}

// value is a float tensor; a size below 0 is a dynamic dimension, named batch.
func value(name string, shape ...int64) []byte {
	var dimensions []byte
	for _, size := range shape {
		var dimension []byte
		if size < 0 {
			dimension = field(nil, dimensionName, []byte("batch"))
		} else {
			dimension = number(dimensionValue, int(size))
		}
		dimensions = field(dimensions, shapeDimension, dimension)
	}
	tensor := field(number(tensorElement, elementFloat), tensorShape, dimensions)
	return field(field(nil, valueName, []byte(name)), valueType, field(nil, typeTensor, tensor))
}

// Graph is an ONNX file of one node named the_node, with one float input in and
// one float output out of the same shape; -1 is a dynamic dimension.
func Graph(operator string, shape ...int64) []byte {
	var node []byte
	for _, part := range []struct {
		number protowire.Number
		text   string
	}{{nodeInput, "in"}, {nodeOutput, "out"}, {nodeName, "the_node"}, {nodeOperator, operator}} {
		node = field(node, part.number, []byte(part.text))
	}
	graph := field(field(nil, graphNode, node), graphName, []byte("graph"))
	graph = field(field(graph, graphInput, value("in", shape...)), graphOutput, value("out", shape...))
	model := number(modelIRVersion, onnxVersion)
	model = field(model, modelGraph, graph)
	return field(model, modelOpset, number(opsetVersion, opset))
}

// Inputs reads the names and shapes of an ONNX file's inputs; -1 is a dynamic
// dimension. It returns nil for what is no ONNX file.
func Inputs(onnx []byte) map[string][]int64 {
	inputs := map[string][]int64{}
	for _, graph := range fields(onnx, modelGraph) {
		for _, input := range fields(graph, graphInput) {
			var name string
			for _, text := range fields(input, valueName) {
				name = string(text)
			}
			shape := []int64{}
			for _, step := range descend(input, valueType, typeTensor, tensorShape) {
				for _, dimension := range fields(step, shapeDimension) {
					shape = append(shape, size(dimension))
				}
			}
			inputs[name] = shape
		}
	}
	return inputs
}

func size(dimension []byte) int64 {
	for len(dimension) > 0 {
		number, kind, n := protowire.ConsumeTag(dimension)
		if n < 0 {
			break
		}
		dimension = dimension[n:]
		if number == dimensionValue && kind == protowire.VarintType {
			value, _ := protowire.ConsumeVarint(dimension)
			return int64(value)
		}
		if n = protowire.ConsumeFieldValue(number, kind, dimension); n < 0 {
			break
		}
		dimension = dimension[n:]
	}
	return -1
}

// fields are the contents of a message's fields of one number.
func fields(message []byte, wanted protowire.Number) (contents [][]byte) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil
		}
		message = message[n:]
		if number == wanted && kind == protowire.BytesType {
			content, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return nil
			}
			contents, message = append(contents, content), message[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return nil
		}
		message = message[n:]
	}
	return contents
}

func descend(message []byte, path ...protowire.Number) [][]byte {
	messages := [][]byte{message}
	for _, number := range path {
		var next [][]byte
		for _, message := range messages {
			next = append(next, fields(message, number)...)
		}
		messages = next
	}
	return messages
}
