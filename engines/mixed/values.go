package mixed

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"gladd/internal/onnx"
)

// value is a tensor that flows through a graph.
type value struct {
	name     string
	kind     elementType // in the graph as it came; unknown: nobody says
	producer *node       // nil: an input or an initializer
	weights  *tensor     // of initializers and constants, else nil
	readers  []*node
	input    bool
	// pinned values are outputs of the graph, or read by a graph within it: their
	// own name must go on to hold FP32.
	pinned bool

	// What is known of float32 values.

	constant bool // the same in every run
	// flexible ones exist in both precisions at no cost.
	flexible bool
	// unfit ones hold what FP16 cannot, magnitudes above 65504, or were computed
	// from it.
	unfit bool
	// lost ones are single numbers that FP16 takes a part of.
	lost bool
	// statistic says that it was reduced from other values: a mean, a norm.
	statistic bool

	half               bool   // computed in FP16
	halfReaders        int    // FP16 nodes that read it
	alias              *value // the float32 value that a Cast to float32 repeats
	widens             *value // the FP16 value that a Cast gives as float32
	narrows            *value // of FP16 values: the float32 value that it is in FP16, without a Cast
	wantHalf, wantFull bool
	halfName, fullName string
}

func (v *value) float() bool { return v.kind == float32s }

// same follows aliases.
func (v *value) same() *value {
	for v.alias != nil {
		v = v.alias
	}
	return v
}

// values makes the table of a graph's values and ties nodes to them. It refuses
// graphs that are not in order.
func (c *converter) values() error {
	c.table = map[string]*value{}
	define := func(name string) (*value, error) {
		if c.table[name] != nil {
			return nil, fmt.Errorf("%q is given twice; the file is damaged", name)
		}
		v := &value{name: name}
		c.table[name] = v
		c.order = append(c.order, v)
		return v, nil
	}
	for _, input := range c.graph.inputs {
		v, err := define(input.name)
		if err != nil {
			return err
		}
		v.kind, v.input = input.kind, true
	}
	given := map[string]bool{}
	for _, list := range [][]*tensor{c.graph.initializers, c.graph.sparse} {
		for _, t := range list {
			if given[t.name] {
				return fmt.Errorf("%q is given twice; the file is damaged", t.name)
			}
			given[t.name] = true
			v := c.table[t.name]
			if v == nil {
				var err error
				if v, err = define(t.name); err != nil {
					return err
				}
				v.constant = true
			}
			v.kind = t.kind
		}
	}
	for _, t := range c.graph.initializers {
		if v := c.table[t.name]; !v.input { // the value of an input may be replaced in a run
			v.weights = t
		}
	}
	for _, n := range c.graph.nodes {
		for _, name := range n.inputs {
			v := c.table[name]
			if name != "" && v == nil {
				return fmt.Errorf("node %s reads %q, which nothing before it gives; expected nodes in the order of their use", n.title(), name)
			}
			n.reads = append(n.reads, v)
			if v != nil {
				v.readers = append(v.readers, n)
			}
		}
		for _, name := range n.captured {
			if v := c.table[name]; v != nil {
				v.pinned = true
			}
		}
		for _, name := range n.outputs {
			if name == "" {
				n.gives = append(n.gives, nil)
				continue
			}
			v, err := define(name)
			if err != nil {
				return err
			}
			v.producer = n
			n.gives = append(n.gives, v)
		}
	}
	for _, output := range c.graph.outputs {
		v := c.table[output.name]
		if v == nil {
			return fmt.Errorf("output %q: nothing gives it", output.name)
		}
		v.pinned = true
		if v.kind == unknown {
			v.kind = output.kind
		}
	}
	for _, info := range c.graph.infos {
		if v := c.table[info.name]; v != nil && v.kind == unknown {
			v.kind = info.kind
		}
	}
	c.inferTypes()
	c.findCasts()
	return nil
}

// findCasts finds what a Cast gives that is there without it.
func (c *converter) findCasts() {
	for _, n := range c.graph.nodes {
		if n.op != "Cast" || !n.known || len(n.reads) != 1 || n.reads[0] == nil || len(n.gives) != 1 || n.gives[0] == nil {
			continue
		}
		in, out := n.reads[0], n.gives[0]
		switch {
		case in.kind == float16s && out.float():
			out.widens = in
		case in.float() && out.float() && !out.pinned:
			out.alias = in.same()
		}
	}
}

// maxPasses limits how often types are looked for; two are enough for graphs
// that an exporter wrote.
const maxPasses = 8

// inferTypes finds the types of what nodes give, and, from how it is used, of
// what unknown operators give.
func (c *converter) inferTypes() {
	for pass, changed := 0, true; changed && pass < maxPasses; pass++ {
		changed = false
		set := func(v *value, kind elementType) {
			if v != nil && v.kind == unknown && kind != unknown {
				v.kind, changed = kind, true
			}
		}
		for _, n := range c.graph.nodes {
			t := n.typeOfData()
			if t != unknown && t != n.kind {
				n.kind, changed = t, true
			}
			for _, v := range n.typed() {
				set(v, n.kind)
			}
			for i, v := range n.gives {
				switch kind := n.outputKind(i); kind {
				case typeT:
					set(v, n.kind)
				case typeLike:
					set(v, n.typeLike())
				case typeOpen:
					set(v, n.openKind(i))
				default:
					set(v, kind)
				}
			}
		}
	}
}

// typed are the values of type T that a node reads.
func (n *node) typed() []*value {
	if n.operator.data == nil && n.known {
		return n.reads
	}
	var list []*value
	for _, i := range n.operator.data {
		if i < len(n.reads) {
			list = append(list, n.reads[i])
		}
	}
	return list
}

// takes says that a node reads its i-th input as one of type T.
func (n *node) takes(i int) bool {
	return n.known && (n.operator.data == nil || slices.Contains(n.operator.data, i))
}

// takesValue says that it reads a value so.
func (n *node) takesValue(v *value) bool {
	if n.known && n.operator.data == nil {
		return true
	}
	return slices.ContainsFunc(n.operator.data, func(i int) bool { return i < len(n.reads) && n.reads[i] == v })
}

func (n *node) outputKind(i int) elementType {
	gives := n.operator.gives
	if len(gives) == 0 {
		return unknown
	}
	return gives[min(i, len(gives)-1)]
}

// typeOfData finds T.
func (n *node) typeOfData() elementType {
	for _, v := range n.typed() {
		if v != nil && v.kind != unknown {
			return v.kind
		}
	}
	for i, v := range n.gives {
		if v != nil && v.kind != unknown && n.outputKind(i) == typeT {
			return v.kind
		}
	}
	return unknown
}

func (n *node) typeLike() elementType {
	like := n.operator.like
	switch {
	case like < len(n.reads) && n.reads[like] != nil:
		return n.reads[like].kind
	case n.op == "QuantizeLinear":
		if kind := n.attributes["output_dtype"].integer; kind != 0 {
			return elementType(kind)
		}
		return uint8s
	}
	return unknown
}

// openKind is the type of an output that an attribute decides.
func (n *node) openKind(i int) elementType {
	switch n.op {
	case "Cast":
		return elementType(n.attributes["to"].integer)
	case "Constant", "ConstantOfShape":
		if a := n.attributes["value"]; a.tensor != nil {
			return a.tensor.kind
		}
		for _, other := range []struct {
			name string
			kind elementType
		}{{"value_int", int64s}, {"value_ints", int64s}, {"value_string", noTensor}, {"value_strings", noTensor}, {"sparse_value", noTensor}} {
			if _, found := n.attributes[other.name]; found {
				return other.kind
			}
		}
		return float32s
	case "RandomNormal", "RandomUniform":
		if kind := n.attributes["dtype"].integer; kind != 0 {
			return elementType(kind)
		}
		return float32s
	case "EyeLike", "Bernoulli":
		if kind := n.attributes["dtype"].integer; kind != 0 {
			return elementType(kind)
		}
		if len(n.reads) > 0 && n.reads[0] != nil {
			return n.reads[0].kind
		}
	case "If", "Scan":
		if i < len(n.subgraphOutputs) {
			return n.subgraphOutputs[i]
		}
	case "Loop": // the first output of its body is the condition
		if i+1 < len(n.subgraphOutputs) {
			return n.subgraphOutputs[i+1]
		}
	}
	return unknown
}

// constantTensor is what a Constant holds, or what fills a ConstantOfShape, as
// a tensor; nil if it is not float32 values that can be had in FP16.
func (n *node) constantTensor() *tensor {
	if a, found := n.attributes["value"]; found {
		if a.tensor == nil || a.tensor.kind != float32s {
			return nil
		}
		return a.tensor
	}
	value := &tensor{kind: float32s}
	if a, found := n.attributes["value_float"]; found {
		value.data = protowire.AppendFixed32(nil, uint32(a.float))
		return value
	}
	if n.op == "ConstantOfShape" { // without a value it is filled with zeros
		value.dims = []int64{1}
		value.fields, _ = onnx.Parse(onnx.AppendInteger(nil, onnx.TensorDims, 1))
		value.data = make([]byte, 4)
		return value
	}
	return nil
}
