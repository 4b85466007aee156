package mixed

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"gladd/internal/onnx"
)

const (
	tensorInts        protowire.Number = 7  // TensorProto.int64_data
	attributeTypeInts                  = 7  // AttributeProto.AttributeType.INTS
	dimensionNamed    protowire.Number = 2  // TensorShapeProto.Dimension.dim_param
	shapeDimension    protowire.Number = 1  // TensorShapeProto.dim
	tensorTypeShape   protowire.Number = 2  // TypeProto.Tensor.shape
	opsetDomain       protowire.Number = 1  // OperatorSetIdProto.domain
	opsetVersion      protowire.Number = 2  // OperatorSetIdProto.version
	axesAreInput                       = 18 // the first operator set in which ReduceMean's axes are an input
)

// WithMeanSquare adds an output [N] to a graph: the mean of the squares of each
// sample of a float output [N,C,H,W]. It is finite if and only if all values are, as
// long as their squares are.
func WithMeanSquare(model []byte, of, output string) ([]byte, error) {
	fields, err := onnx.Parse(model)
	if err != nil {
		return nil, fmt.Errorf("ONNX file: %w", err)
	}
	opset, err := operatorSet(fields)
	if err != nil {
		return nil, fmt.Errorf("ONNX file: %w", err)
	}
	addition := meanSquare(of, output, opset)
	var result []byte
	found := false
	for _, f := range fields {
		if !f.Message(onnx.ModelGraph) {
			result = append(result, f.Raw...)
			continue
		}
		found = true
		result = onnx.AppendMessage(result, onnx.ModelGraph, append(f.Bytes[:len(f.Bytes):len(f.Bytes)], addition...))
	}
	if !found {
		return nil, errors.New("ONNX file: expected a graph, found none")
	}
	return result, nil
}

// operatorSet is the version of ONNX's own operators.
func operatorSet(model []onnx.Field) (int64, error) {
	for _, f := range model {
		if !f.Message(onnx.ModelOpset) {
			continue
		}
		entries, err := onnx.Parse(f.Bytes)
		if err != nil {
			return 0, err
		}
		domain, version := "", int64(0)
		for _, entry := range entries {
			switch {
			case entry.Message(opsetDomain):
				domain = string(entry.Bytes)
			case entry.Is(opsetVersion, protowire.VarintType):
				version = int64(entry.Scalar)
			}
		}
		if (domain == "" || domain == "ai.onnx") && version > 0 {
			return version, nil
		}
	}
	return 0, errors.New("expected the version of its operators, found none")
}

// meanSquare is what is added to the graph's fields.
func meanSquare(of, output string, opset int64) []byte {
	axes := []int64{1, 2, 3} // channels, rows, columns
	squares := output + "_squares"
	keep := onnx.AppendInteger(onnx.AppendInteger(onnx.AppendText(nil, onnx.AttributeName, "keepdims"), onnx.AttributeInt, 0), onnx.AttributeType, onnx.AttributeTypeInt)
	inputs, attributes := []string{squares}, [][]byte{keep}
	var graph []byte
	if opset >= axesAreInput {
		inputs = append(inputs, output+"_axes")
		tensor := onnx.AppendInteger(nil, onnx.TensorDims, int64(len(axes)))
		tensor = onnx.AppendInteger(tensor, onnx.TensorType, int64(int64s))
		for _, axis := range axes {
			tensor = onnx.AppendInteger(tensor, tensorInts, axis)
		}
		graph = onnx.AppendMessage(graph, onnx.GraphInitializer, onnx.AppendText(tensor, onnx.TensorName, output+"_axes"))
	} else {
		attribute := onnx.AppendText(nil, onnx.AttributeName, "axes")
		for _, axis := range axes {
			attribute = onnx.AppendInteger(attribute, onnx.AttributeInts, axis)
		}
		attributes = append(attributes, onnx.AppendInteger(attribute, onnx.AttributeType, attributeTypeInts))
	}
	graph = onnx.AppendMessage(graph, onnx.GraphNode, encodeNode("Mul", squares, []string{of, of}, nil))
	graph = onnx.AppendMessage(graph, onnx.GraphNode, encodeNode("ReduceMean", output, inputs, attributes))

	shape := onnx.AppendMessage(nil, shapeDimension, onnx.AppendText(nil, dimensionNamed, "N"))
	tensor := onnx.AppendMessage(onnx.AppendInteger(nil, onnx.TensorTypeElem, int64(float32s)), tensorTypeShape, shape)
	info := onnx.AppendMessage(onnx.AppendText(nil, onnx.InfoName, output), onnx.InfoType, onnx.AppendMessage(nil, onnx.TypeTensor, tensor))
	return onnx.AppendMessage(graph, onnx.GraphOutput, info)
}

// encodeNode is a NodeProto, named as its output.
func encodeNode(operator, output string, inputs []string, attributes [][]byte) (node []byte) {
	for _, input := range inputs {
		node = onnx.AppendText(node, onnx.NodeInput, input)
	}
	node = onnx.AppendText(node, onnx.NodeOutput, output)
	node = onnx.AppendText(node, onnx.NodeName, output)
	node = onnx.AppendText(node, onnx.NodeOperator, operator)
	for _, attribute := range attributes {
		node = onnx.AppendMessage(node, onnx.NodeAttribute, attribute)
	}
	return node
}
