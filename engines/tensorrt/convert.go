package tensorrt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"

	"gladd/engines"
	"gladd/engines/mixed"
)

// energyOutput is an output that the decoder's engine has beside the picture: the
// mean of its squares. Decoded pictures stay on the GPU, where nobody looks at
// them, and a map may lose a NaN that was in one; a mean of squares keeps it, and
// an infinity too.
const energyOutput = "gladd_energy"

// energyVersion changes when the output is computed otherwise.
const energyVersion = 1

// convert returns a network's graph as TensorRT gets it: in memory, or as a file
// where its weights are in other files. remove deletes what was written.
func (b *Backend) convert(bundle *engines.Bundle, name engines.GraphName) (graph []byte, path string, remove func(), err error) {
	remove = func() {}
	if graph, err = bundle.ReadGraph(name); err != nil {
		return nil, "", remove, err
	}
	if name == engines.VAEDecoder {
		if graph, err = withEnergy(graph); err != nil {
			return nil, "", remove, err
		}
	}
	if bundle.HasExternalData(name) {
		// A plan of weights that changed since the bundle was loaded would be kept.
		if err := bundle.Verify(name); err != nil {
			return nil, "", remove, err
		}
		path, remove, err = b.convertFile(bundle, name, graph)
		return nil, path, remove, err
	}
	if !b.halves() {
		return graph, "", remove, nil
	}
	graph, report, err := mixed.Convert(graph, mixed.Options{})
	b.log.Debug("graph converted to FP16", "network", string(name), "report", fmt.Sprint(report))
	return graph, "", remove, err
}

// convertFile does so in a folder beside the cache's files: weights of gigabytes do
// not go to the system's folder for temporary files, which may be memory.
func (b *Backend) convertFile(bundle *engines.Bundle, name engines.GraphName, graph []byte) (path string, remove func(), err error) {
	dir, err := os.MkdirTemp(b.cache.Dir(), "convert-"+string(name)+".*"+partSuffix)
	if err != nil {
		return "", func() {}, &CacheError{err}
	}
	remove = func() {
		if err := os.RemoveAll(dir); err != nil {
			b.log.Warn("engine cache: a converted graph is left behind; gladd engines prune removes it", "error", err)
		}
	}
	path = filepath.Join(dir, "graph.onnx")
	err = os.WriteFile(path, graph, 0o600)
	for _, external := range bundle.ExternalData(name) {
		target, absErr := filepath.Abs(external)
		linked := filepath.Join(dir, filepath.Base(external))
		err = errors.Join(err, absErr, os.Symlink(target, linked))
	}
	if err != nil || !b.halves() {
		return path, remove, err
	}
	converted := filepath.Join(dir, "half.onnx")
	_, err = mixed.ConvertFile(path, converted, mixed.Options{})
	return converted, remove, err
}

// Field numbers of onnx.proto3.
const (
	modelGraph       protowire.Number = 7  // ModelProto.graph
	modelOpset       protowire.Number = 8  // ModelProto.opset_import
	opsetDomain      protowire.Number = 1  // OperatorSetIdProto.domain
	opsetVersion     protowire.Number = 2  // OperatorSetIdProto.version
	graphNode        protowire.Number = 1  // GraphProto.node
	graphInitializer protowire.Number = 5  // GraphProto.initializer
	graphOutput      protowire.Number = 12 // GraphProto.output
)

// withEnergy adds the output of energies [N] to the decoder's graph.
func withEnergy(model []byte) ([]byte, error) {
	const picture = "image" // the contract's name
	opset := uint64(0)
	err := fields(model, func(number protowire.Number, value []byte) error {
		if number != modelOpset {
			return nil
		}
		domain, version := "", uint64(0)
		err := fields(value, func(number protowire.Number, value []byte) error {
			if number == opsetDomain {
				domain = string(value)
			}
			return nil
		}, func(number protowire.Number, value uint64) {
			if number == opsetVersion {
				version = value
			}
		})
		if domain == "" || domain == "ai.onnx" {
			opset = version
		}
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	if opset == 0 {
		return nil, errors.New("ONNX file: expected the version of its operators, found none")
	}

	// energy = mean over channels, rows and columns of image * image.
	axes := []int64{1, 2, 3}
	const squares = energyOutput + "_squares"
	addition := appendBytes(nil, graphNode, encodeNode("Mul", squares, []string{picture, picture}))
	if opset >= 18 { // the axes became an input
		const name = energyOutput + "_axes"
		var dims, values []byte
		dims = protowire.AppendVarint(dims, uint64(len(axes)))
		for _, axis := range axes {
			values = protowire.AppendVarint(values, uint64(axis))
		}
		tensor := appendBytes(nil, 1, dims)           // dims
		tensor = appendVarint(tensor, 2, 7)           // data_type: INT64
		tensor = appendBytes(tensor, 7, values)       // int64_data
		tensor = appendBytes(tensor, 8, []byte(name)) // name
		addition = appendBytes(addition, graphInitializer, tensor)
		addition = appendBytes(addition, graphNode, encodeNode("ReduceMean", energyOutput, []string{squares, name}, attribute("keepdims", []int64{0}, false)))
	} else {
		addition = appendBytes(addition, graphNode, encodeNode("ReduceMean", energyOutput, []string{squares},
			attribute("keepdims", []int64{0}, false), attribute("axes", axes, true)))
	}

	// TypeProto{tensor_type{elem_type: FLOAT, shape{dim{dim_param: "N"}}}}
	shape := appendBytes(nil, 1, appendBytes(nil, 2, []byte("N")))
	tensorType := appendBytes(appendVarint(nil, 1, 1), 2, shape)
	output := appendBytes(appendBytes(nil, 1, []byte(energyOutput)), 2, appendBytes(nil, 1, tensorType))
	addition = appendBytes(addition, graphOutput, output)

	// A message that comes twice is merged: its repeated fields are joined. But
	// parsers that take the last one alone are not unheard of.
	var result []byte
	found := false
	for rest := model; len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			return nil, fmt.Errorf("ONNX file: %w", protowire.ParseError(n))
		}
		if number == modelGraph {
			_, _, tag := protowire.ConsumeTag(rest)
			graph, _ := protowire.ConsumeBytes(rest[tag:])
			result = appendBytes(result, modelGraph, append(graph[:len(graph):len(graph)], addition...))
			found = true
		} else {
			result = append(result, rest[:n]...)
		}
		rest = rest[n:]
	}
	if !found {
		return nil, errors.New("ONNX file: expected a graph, found none")
	}
	return result, nil
}

// encodeNode is a NodeProto, named as its output.
func encodeNode(operator, output string, inputs []string, attributes ...[]byte) []byte {
	var node []byte
	for _, input := range inputs {
		node = appendBytes(node, 1, []byte(input))
	}
	node = appendBytes(node, 2, []byte(output))
	node = appendBytes(node, 3, []byte(output))
	node = appendBytes(node, 4, []byte(operator))
	for _, each := range attributes {
		node = appendBytes(node, 5, each)
	}
	return node
}

// attribute of whole numbers: one, or a list.
func attribute(name string, values []int64, list bool) []byte {
	encoded := appendBytes(nil, 1, []byte(name))
	if !list {
		encoded = appendVarint(encoded, 3, uint64(values[0])) // i
		return appendVarint(encoded, 20, 2)                   // type: INT
	}
	for _, value := range values {
		encoded = appendVarint(encoded, 8, uint64(value)) // ints
	}
	return appendVarint(encoded, 20, 7) // type: INTS
}

func appendBytes(to []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), value)
}

func appendVarint(to []byte, number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(to, number, protowire.VarintType), value)
}

// fields calls one of two functions, where it is not nil, for each field of a
// message.
func fields(message []byte, bytes func(protowire.Number, []byte) error, number func(protowire.Number, uint64)) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return fmt.Errorf("ONNX file: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(field, kind, message[n:])
		if size < 0 {
			return fmt.Errorf("ONNX file: %w", protowire.ParseError(size))
		}
		value := message[n : n+size]
		switch {
		case kind == protowire.BytesType && bytes != nil:
			content, _ := protowire.ConsumeBytes(value)
			if err := bytes(field, content); err != nil {
				return err
			}
		case kind == protowire.VarintType && number != nil:
			content, _ := protowire.ConsumeVarint(value)
			number(field, content)
		}
		message = message[n+size:]
	}
	return nil
}
