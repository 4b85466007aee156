package engines

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of onnx.proto3, as far as weights can hide behind them.
const (
	modelGraph         protowire.Number = 7  // ModelProto.graph
	modelFunctions     protowire.Number = 25 // ModelProto.functions
	graphNode          protowire.Number = 1  // GraphProto.node
	graphInitializer   protowire.Number = 5  // GraphProto.initializer
	graphSparse        protowire.Number = 15 // GraphProto.sparse_initializer
	functionNode       protowire.Number = 7  // FunctionProto.node
	nodeAttribute      protowire.Number = 5  // NodeProto.attribute
	attributeTensor    protowire.Number = 5  // AttributeProto.t
	attributeGraph     protowire.Number = 6  // AttributeProto.g
	attributeTensors   protowire.Number = 10 // AttributeProto.tensors
	attributeGraphs    protowire.Number = 11 // AttributeProto.graphs
	attributeSparse    protowire.Number = 22 // AttributeProto.sparse_tensor
	attributeSparses   protowire.Number = 23 // AttributeProto.sparse_tensors
	sparseValues       protowire.Number = 1  // SparseTensorProto.values
	sparseIndices      protowire.Number = 2  // SparseTensorProto.indices
	tensorExternalData protowire.Number = 13 // TensorProto.external_data
	entryKey           protowire.Number = 1  // StringStringEntryProto.key
	entryValue         protowire.Number = 2  // StringStringEntryProto.value
)

// maxGraphDepth limits graphs within graphs: each level is a few calls deep, and
// Go's stack ends the process when it is full.
const maxGraphDepth = 100

// externalLocations returns the files beside an ONNX file from which it takes
// weights, each once.
func externalLocations(onnx []byte) ([]string, error) {
	var locations []string
	tensor := visitor{tensorExternalData: func(entry []byte) error {
		location, err := locationOf(entry)
		if location != "" && !slices.Contains(locations, location) {
			locations = append(locations, location)
		}
		return err
	}}.visit
	sparse := visitor{sparseValues: tensor, sparseIndices: tensor}.visit
	var graph func([]byte) error
	subgraph := func(data []byte) error { return graph(data) }
	attribute := visitor{
		attributeTensor: tensor, attributeTensors: tensor,
		attributeSparse: sparse, attributeSparses: sparse,
		attributeGraph: subgraph, attributeGraphs: subgraph,
	}.visit
	node := visitor{nodeAttribute: attribute}.visit
	fields := visitor{graphNode: node, graphInitializer: tensor, graphSparse: sparse}
	depth := 0
	graph = func(data []byte) error {
		depth++
		defer func() { depth-- }()
		if depth > maxGraphDepth {
			return fmt.Errorf("expected graphs nested at most %d deep, found more", maxGraphDepth)
		}
		return fields.visit(data)
	}
	function := visitor{functionNode: node}.visit

	graphs := 0
	err := visitor{
		modelGraph:     func(data []byte) error { graphs++; return graph(data) },
		modelFunctions: function,
	}.visit(onnx)
	if err == nil && graphs == 0 {
		err = errors.New("it holds no graph")
	}
	return locations, err
}

func locationOf(entry []byte) (location string, err error) {
	var key, value string
	err = visitor{
		entryKey:   func(data []byte) error { key = string(data); return nil },
		entryValue: func(data []byte) error { value = string(data); return nil },
	}.visit(entry)
	if key != "location" {
		return "", err
	}
	return value, err
}

// visitor holds what to do with the length-delimited fields of a message;
// others are skipped.
type visitor map[protowire.Number]func([]byte) error

func (v visitor) visit(message []byte) error {
	for len(message) > 0 {
		number, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return protowire.ParseError(length)
		}
		message = message[length:]
		if visit := v[number]; visit != nil && kind == protowire.BytesType {
			field, length := protowire.ConsumeBytes(message)
			if length < 0 {
				return protowire.ParseError(length)
			}
			if err := visit(field); err != nil {
				return err
			}
			message = message[length:]
			continue
		}
		length = protowire.ConsumeFieldValue(number, kind, message)
		if length < 0 {
			return protowire.ParseError(length)
		}
		message = message[length:]
	}
	return nil
}
