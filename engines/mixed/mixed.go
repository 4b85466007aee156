// Package mixed turns an ONNX graph that computes in FP32 into one that computes
// in FP16 where that is safe, for TensorRT 10, 11 and RTX: they take the
// precision of each value from the graph.
//
// Products of matrices and what stands between them compute in FP16, with FP16
// weights. In FP32 stay:
//
//   - the graph's inputs and outputs, under their names;
//   - normalisations, softmax, sums over many values, exponentials, roots and
//     quotients, also where an exporter wrote a normalisation as several
//     operators: a value that meets its own mean or norm meets it in FP32;
//   - what stands before the first product of matrices: a timestep of 999 times
//     a frequency is off by up to a quarter of a radian in FP16;
//   - what stands after the last product with weights: the distances of the DINO
//     graphs. One minus a cosine in FP16 comes in steps of 0.0005, where good
//     parts have gate scores of 0.001 to 0.003; the demo's gate maps were off by
//     eight times as much as with a cosine in FP32;
//   - values above 65504, numbers that FP16 would lose, and what is computed
//     from them;
//   - graphs within the graph, quantised and unknown operators.
//
// A Cast stands where a value crosses the border, once for each value. The
// weights that a bundle stores in FP16 are used as they are.
//
// ONNX Runtime runs the converted graphs too, but its CPU provider computes FP16
// nodes in FP32 and rounds weights only: it shows that a graph is sound, not what
// it computes on a GPU. The tests round every FP16 value.
package mixed

import (
	"bytes"
	"errors"
	"fmt"

	"gladd/internal/onnx"
)

// Version changes when the same graph is converted to other bytes than before.
// It belongs into the key of whatever is made of converted graphs.
const Version = 1

// largestModel is what protobuf can hold, in bytes.
const largestModel = 1<<31 - 1

// Options of a conversion.
type Options struct {
	// KeepOperators are types of operators that stay in FP32: Sigmoid, MatMul, ...
	KeepOperators []string
	// KeepNodes are names of nodes that stay in FP32.
	KeepNodes []string
}

// converter is one conversion under way.
type converter struct {
	options Options
	graph   *graph
	table   map[string]*value
	order   []*value        // as they come in the graph
	names   map[string]bool // of nodes
	report  Report
	outside *weightsFile // nil: all weights are in the graph's own file
}

// Convert converts a graph whose weights are all in its own file. The same graph
// and options give the same bytes. It does not change model.
//
// It fails if model is no ONNX file, if its nodes are not in the order of their
// use, or if it takes weights from files beside it; those are for [ConvertFile].
func Convert(model []byte, options Options) ([]byte, Report, error) {
	fields, graph, err := parseModel(model)
	if err != nil {
		return nil, Report{}, fmt.Errorf("not an ONNX file: %w", err)
	}
	for _, t := range graph.initializers {
		if t.external != nil {
			return nil, Report{}, fmt.Errorf("tensor %q: its values are in the file %q beside the graph; convert the file, not its content", t.name, t.external.file)
		}
	}
	c := &converter{options: options, graph: graph}
	converted, err := c.convert(fields)
	if err != nil {
		return nil, Report{}, err
	}
	var out bytes.Buffer
	out.Grow(int(converted.size))
	if err := converted.write(&out); err != nil {
		return nil, Report{}, err
	}
	return out.Bytes(), c.report, nil
}

// convert makes the new model, whose weights are converted when it is written.
func (c *converter) convert(fields []onnx.Field) (piece, error) {
	if err := c.values(); err != nil {
		return piece{}, err
	}
	for _, t := range c.graph.initializers {
		if t.kind != float32s {
			continue
		}
		if err := t.measure(); err != nil {
			return piece{}, err
		}
	}
	c.decide()
	c.findNarrowed()
	c.wants()
	c.nameValues()
	c.report.begin(c)
	var out piece
	for _, f := range fields {
		if f.Message(onnx.ModelGraph) {
			out.message(onnx.ModelGraph, c.rewriteGraph())
		} else {
			out.append(f.Raw)
		}
	}
	if out.size > largestModel {
		return piece{}, errors.New("the converted graph would take more than 2 GiB; store its weights beside it and convert the file")
	}
	return out, nil
}

// findNarrowed finds the FP16 values that are there without the Cast that gives
// them.
func (c *converter) findNarrowed() {
	for _, n := range c.graph.nodes {
		if n.op != "Cast" || !n.known || len(n.reads) != 1 || n.reads[0] == nil || len(n.gives) != 1 || n.gives[0] == nil {
			continue
		}
		in, out := n.reads[0], n.gives[0]
		source := in.same()
		if !in.float() || out.kind != float16s || out.pinned {
			continue
		}
		switch {
		case source.widens != nil && source.widens.narrows != nil:
			out.narrows = source.widens.narrows
		case source.half, source.free(), source.widens != nil:
			out.narrows = source
		}
	}
}
