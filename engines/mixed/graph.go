package mixed

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"gladd/internal/onnx"
)

// maxGraphDepth limits graphs within graphs: each level is a few calls deep,
// and Go's stack ends the process when it is full.
const maxGraphDepth = 100

// graph is a GraphProto and what its nodes say.
type graph struct {
	fields       []onnx.Field
	nodes        []*node
	initializers []*tensor // in the order of their fields
	sparse       []*tensor // the values of sparse ones
	inputs       []info
	outputs      []info
	infos        []info
}

// info is a ValueInfoProto.
type info struct {
	name string
	kind elementType
}

// node is a NodeProto.
type node struct {
	fields           []onnx.Field
	name, op, domain string
	inputs, outputs  []string
	attributes       map[string]attribute
	captured         []string      // what its subgraphs mention
	subgraphOutputs  []elementType // of the first of them
	operator         operator
	known            bool

	reads, gives []*value
	kind         elementType // T, of the values that it computes with
	heavyAbove   bool        // there is a product of matrices before it
	leadTo       bool        // it leads to one with weights, or is one
	towards      bool        // it leads to what may compute in FP16 by moves alone
	precision    precision
	reason       string // why it stays in FP32
}

// attribute is an AttributeProto, as far as it matters here.
type attribute struct {
	integer int64
	float   uint64 // bits of a float32
	ints    []int64
	floats  int // how many
	tensor  *tensor
}

// title names a node for people.
func (n *node) title() string {
	name := n.name
	if name == "" && len(n.outputs) > 0 {
		name = n.outputs[0]
	}
	return fmt.Sprintf("%s %q", n.op, name)
}

// parseModel finds the one graph of a model.
func parseModel(model []byte) (fields []onnx.Field, g *graph, err error) {
	if fields, err = onnx.Parse(model); err != nil {
		return nil, nil, err
	}
	opset := false
	for _, f := range fields {
		opset = opset || f.Message(onnx.ModelOpset)
		if !f.Message(onnx.ModelGraph) {
			continue
		}
		if g != nil {
			return nil, nil, errors.New("expected one graph, found two")
		}
		if g, err = parseGraph(f.Bytes); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case g == nil:
		return nil, nil, errors.New("it holds no graph")
	case !opset:
		return nil, nil, errors.New("it names no version of the operators")
	}
	return fields, g, nil
}

func parseGraph(message []byte) (*graph, error) {
	fields, err := onnx.Parse(message)
	if err != nil {
		return nil, err
	}
	g := &graph{fields: fields}
	for _, f := range fields {
		if f.Kind != protowire.BytesType {
			continue
		}
		switch f.Number {
		case onnx.GraphNode:
			var parsed *node
			if parsed, err = parseNode(f.Bytes); err == nil {
				g.nodes = append(g.nodes, parsed)
			}
		case onnx.GraphInitializer:
			var parsed *tensor
			if parsed, err = parseTensor(f.Bytes); err == nil {
				g.initializers = append(g.initializers, parsed)
			}
		case onnx.GraphSparse:
			var parsed *tensor
			if parsed, err = parseSparse(f.Bytes); err == nil {
				g.sparse = append(g.sparse, parsed)
			}
		case onnx.GraphInput:
			err = appendInfo(&g.inputs, f.Bytes)
		case onnx.GraphOutput:
			err = appendInfo(&g.outputs, f.Bytes)
		case onnx.GraphValueInfo:
			err = appendInfo(&g.infos, f.Bytes)
		}
		if err != nil {
			return nil, err
		}
	}
	return g, nil
}

// parseSparse returns the name and the type of a sparse initializer, which its
// values carry; they are never converted.
func parseSparse(message []byte) (*tensor, error) {
	fields, err := onnx.Parse(message)
	if err != nil {
		return nil, err
	}
	found := &tensor{}
	for _, f := range fields {
		if !f.Message(onnx.SparseValues) {
			continue
		}
		values, err := onnx.Parse(f.Bytes)
		if err != nil {
			return nil, err
		}
		for _, f := range values {
			switch {
			case f.Message(onnx.TensorName):
				found.name = string(f.Bytes)
			case f.Is(onnx.TensorType, protowire.VarintType):
				found.kind = elementType(f.Scalar)
			case f.Is(onnx.TensorLocation, protowire.VarintType) && f.Scalar == 1:
				return nil, fmt.Errorf("sparse tensor %q: its values are in a file beside the graph, which is not supported", found.name)
			}
		}
	}
	return found, nil
}

func appendInfo(to *[]info, message []byte) error {
	fields, err := onnx.Parse(message)
	if err != nil {
		return err
	}
	var parsed info
	for _, f := range fields {
		switch {
		case f.Message(onnx.InfoName):
			parsed.name = string(f.Bytes)
		case f.Message(onnx.InfoType):
			if parsed.kind, err = parseType(f.Bytes); err != nil {
				return err
			}
		}
	}
	*to = append(*to, parsed)
	return nil
}

func parseType(message []byte) (elementType, error) {
	fields, err := onnx.Parse(message)
	kind := unknown
	for _, f := range fields {
		if !f.Message(onnx.TypeTensor) {
			if f.Kind == protowire.BytesType && f.Number != 6 { // TypeProto.denotation
				kind = noTensor
			}
			continue
		}
		tensor, err := onnx.Parse(f.Bytes)
		if err != nil {
			return unknown, err
		}
		for _, f := range tensor {
			if f.Is(onnx.TensorTypeElem, protowire.VarintType) {
				kind = elementType(f.Scalar)
			}
		}
	}
	return kind, err
}

func parseNode(message []byte) (*node, error) {
	fields, err := onnx.Parse(message)
	if err != nil {
		return nil, err
	}
	n := &node{fields: fields, attributes: map[string]attribute{}}
	for _, f := range fields {
		if f.Kind != protowire.BytesType {
			continue
		}
		switch text := string(f.Bytes); f.Number {
		case onnx.NodeInput:
			n.inputs = append(n.inputs, text)
		case onnx.NodeOutput:
			n.outputs = append(n.outputs, text)
		case onnx.NodeName:
			n.name = text
		case onnx.NodeOperator:
			n.op = text
		case onnx.NodeDomain:
			n.domain = text
		case onnx.NodeAttribute:
			if err := n.parseAttribute(f.Bytes); err != nil {
				return nil, fmt.Errorf("node %s: %w", n.title(), err)
			}
		}
	}
	if n.domain == "" || n.domain == "ai.onnx" {
		n.operator, n.known = operators[n.op]
	}
	return n, nil
}

func (n *node) parseAttribute(message []byte) error {
	fields, err := onnx.Parse(message)
	if err != nil {
		return err
	}
	var name string
	var parsed attribute
	for _, f := range fields {
		switch {
		case f.Message(onnx.AttributeName):
			name = string(f.Bytes)
		case f.Is(onnx.AttributeInt, protowire.VarintType):
			parsed.integer = int64(f.Scalar)
		case f.Is(onnx.AttributeFloat, protowire.Fixed32Type):
			parsed.float = f.Scalar
		case f.Message(onnx.AttributeFloats):
			parsed.floats += len(f.Bytes) / 4
		case f.Is(onnx.AttributeFloats, protowire.Fixed32Type):
			parsed.floats++
		case f.Number == onnx.AttributeInts:
			parsed.ints, err = f.Integers(parsed.ints)
		case f.Message(onnx.AttributeTensor):
			if parsed.tensor, err = parseTensor(f.Bytes); err == nil && parsed.tensor.external != nil {
				err = fmt.Errorf("attribute %q: its values are in a file beside the graph, which is supported for initializers only", name)
			}
		case f.Message(onnx.AttributeGraph), f.Message(onnx.AttributeGraphs):
			err = n.parseSubgraph(f.Bytes)
		}
		if err != nil {
			return err
		}
	}
	n.attributes[name] = parsed
	return nil
}

// parseSubgraph notes what a graph within a node reads and gives. It stays as
// it is.
func (n *node) parseSubgraph(message []byte) error {
	captured, outputs, err := subgraph(message, 1)
	if err != nil {
		return err
	}
	n.captured = append(n.captured, captured...)
	if n.subgraphOutputs == nil {
		n.subgraphOutputs = outputs
	}
	return nil
}

// subgraph returns all names that a graph mentions; its own are among them, and
// no other graph may use those either.
func subgraph(message []byte, depth int) (names []string, outputs []elementType, err error) {
	if depth > maxGraphDepth {
		return nil, nil, fmt.Errorf("expected graphs nested at most %d deep, found more", maxGraphDepth)
	}
	fields, err := onnx.Parse(message)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range fields {
		switch {
		case f.Message(onnx.GraphOutput):
			var parsed []info
			if err := appendInfo(&parsed, f.Bytes); err != nil {
				return nil, nil, err
			}
			names = append(names, parsed[0].name)
			outputs = append(outputs, parsed[0].kind)
		case f.Message(onnx.GraphInput):
			var parsed []info
			if err := appendInfo(&parsed, f.Bytes); err != nil {
				return nil, nil, err
			}
			names = append(names, parsed[0].name)
		case f.Message(onnx.GraphInitializer):
			parsed, err := parseTensor(f.Bytes)
			if err != nil {
				return nil, nil, err
			}
			if parsed.external != nil {
				return nil, nil, fmt.Errorf("tensor %q: its values are in a file beside the graph, which is not supported within a subgraph", parsed.name)
			}
			names = append(names, parsed.name)
		case f.Message(onnx.GraphNode):
			inner, err := nodeNames(f.Bytes, depth)
			if err != nil {
				return nil, nil, err
			}
			names = append(names, inner...)
		}
	}
	return names, outputs, nil
}

// nodeNames returns the names that a node within a subgraph mentions.
func nodeNames(message []byte, depth int) (names []string, err error) {
	fields, err := onnx.Parse(message)
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		switch {
		case f.Message(onnx.NodeInput), f.Message(onnx.NodeOutput):
			names = append(names, string(f.Bytes))
		case f.Message(onnx.NodeAttribute):
			attributes, err := onnx.Parse(f.Bytes)
			if err != nil {
				return nil, err
			}
			for _, f := range attributes {
				if !f.Message(onnx.AttributeGraph) && !f.Message(onnx.AttributeGraphs) {
					continue
				}
				inner, _, err := subgraph(f.Bytes, depth+1)
				if err != nil {
					return nil, err
				}
				names = append(names, inner...)
			}
		}
	}
	return names, nil
}
