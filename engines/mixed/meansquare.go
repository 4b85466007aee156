package mixed

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
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
	fields, err := parse(model)
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
		if !f.message(modelGraph) {
			result = append(result, f.raw...)
			continue
		}
		found = true
		result = appendMessage(result, modelGraph, append(f.bytes[:len(f.bytes):len(f.bytes)], addition...))
	}
	if !found {
		return nil, errors.New("ONNX file: expected a graph, found none")
	}
	return result, nil
}

// operatorSet is the version of ONNX's own operators.
func operatorSet(model []field) (int64, error) {
	for _, f := range model {
		if !f.message(modelOpset) {
			continue
		}
		entries, err := parse(f.bytes)
		if err != nil {
			return 0, err
		}
		domain, version := "", int64(0)
		for _, entry := range entries {
			switch {
			case entry.message(opsetDomain):
				domain = string(entry.bytes)
			case entry.is(opsetVersion, protowire.VarintType):
				version = int64(entry.scalar)
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
	keep := appendInteger(appendInteger(appendText(nil, attributeName, "keepdims"), attributeInt, 0), attributeType, attributeTypeInt)
	inputs, attributes := []string{squares}, [][]byte{keep}
	var graph []byte
	if opset >= axesAreInput {
		inputs = append(inputs, output+"_axes")
		tensor := appendInteger(nil, tensorDims, int64(len(axes)))
		tensor = appendInteger(tensor, tensorType, int64(int64s))
		for _, axis := range axes {
			tensor = appendInteger(tensor, tensorInts, axis)
		}
		graph = appendMessage(graph, graphInitializer, appendText(tensor, tensorName, output+"_axes"))
	} else {
		attribute := appendText(nil, attributeName, "axes")
		for _, axis := range axes {
			attribute = appendInteger(attribute, attributeInts, axis)
		}
		attributes = append(attributes, appendInteger(attribute, attributeType, attributeTypeInts))
	}
	graph = appendMessage(graph, graphNode, encodeNode("Mul", squares, []string{of, of}, nil))
	graph = appendMessage(graph, graphNode, encodeNode("ReduceMean", output, inputs, attributes))

	shape := appendMessage(nil, shapeDimension, appendText(nil, dimensionNamed, "N"))
	tensor := appendMessage(appendInteger(nil, tensorTypeElem, int64(float32s)), tensorTypeShape, shape)
	info := appendMessage(appendText(nil, infoName, output), infoType, appendMessage(nil, typeTensor, tensor))
	return appendMessage(graph, graphOutput, info)
}

// encodeNode is a NodeProto, named as its output.
func encodeNode(operator, output string, inputs []string, attributes [][]byte) (node []byte) {
	for _, input := range inputs {
		node = appendText(node, nodeInput, input)
	}
	node = appendText(node, nodeOutput, output)
	node = appendText(node, nodeName, output)
	node = appendText(node, nodeOperator, operator)
	for _, attribute := range attributes {
		node = appendMessage(node, nodeAttribute, attribute)
	}
	return node
}
