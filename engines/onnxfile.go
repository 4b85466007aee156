package engines

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"gladd/internal/onnx"
)

// maxGraphDepth limits graphs within graphs: each level is a few calls deep, and
// Go's stack ends the process when it is full.
const maxGraphDepth = 100

// externalLocations returns the files beside an ONNX file from which it takes
// weights, each once.
func externalLocations(file []byte) ([]string, error) {
	var locations []string
	tensor := visitor{onnx.TensorExternal: func(entry []byte) error {
		location, err := locationOf(entry)
		if location != "" && !slices.Contains(locations, location) {
			locations = append(locations, location)
		}
		return err
	}}.visit
	sparse := visitor{onnx.SparseValues: tensor, onnx.SparseIndices: tensor}.visit
	var graph func([]byte) error
	subgraph := func(data []byte) error { return graph(data) }
	attribute := visitor{
		onnx.AttributeTensor: tensor, onnx.AttributeTensors: tensor,
		onnx.AttributeSparse: sparse, onnx.AttributeSparses: sparse,
		onnx.AttributeGraph: subgraph, onnx.AttributeGraphs: subgraph,
	}.visit
	node := visitor{onnx.NodeAttribute: attribute}.visit
	fields := visitor{onnx.GraphNode: node, onnx.GraphInitializer: tensor, onnx.GraphSparse: sparse}
	depth := 0
	graph = func(data []byte) error {
		depth++
		defer func() { depth-- }()
		if depth > maxGraphDepth {
			return fmt.Errorf("expected graphs nested at most %d deep, found more", maxGraphDepth)
		}
		return fields.visit(data)
	}
	function := visitor{onnx.FunctionNode: node}.visit

	graphs := 0
	err := visitor{
		onnx.ModelGraph:     func(data []byte) error { graphs++; return graph(data) },
		onnx.ModelFunctions: function,
	}.visit(file)
	if err == nil && graphs == 0 {
		err = errors.New("it holds no graph")
	}
	return locations, err
}

func locationOf(entry []byte) (location string, err error) {
	var key, value string
	err = visitor{
		onnx.EntryKey:   func(data []byte) error { key = string(data); return nil },
		onnx.EntryValue: func(data []byte) error { value = string(data); return nil },
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
	for field, err := range onnx.Fields(message) {
		if err != nil {
			return err
		}
		if visit := v[field.Number]; visit != nil && field.Kind == protowire.BytesType {
			if err := visit(field.Bytes); err != nil {
				return err
			}
		}
	}
	return nil
}
