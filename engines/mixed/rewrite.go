package mixed

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"gladd/internal/onnx"
)

// wants finds who wants which value in which precision, from the last node to
// the first: what nobody wants is not made.
func (c *converter) wants() {
	for _, n := range slices.Backward(c.graph.nodes) {
		if !c.stays(n) {
			continue
		}
		for i, v := range n.reads {
			if v != nil {
				c.want(v, n.readsHalf(i))
			}
		}
	}
}

// want asks for a value in a precision; values that are no float32 are there.
func (c *converter) want(v *value, half bool) {
	v = v.same()
	switch {
	case v.narrows != nil:
		c.want(v.narrows, true)
	case !v.float():
	case half && v.widens != nil:
		c.want(v.widens, false)
	case half:
		v.wantHalf = true
	default:
		v.wantFull = true
	}
}

// readsHalf says that a node reads its i-th input in FP16.
func (n *node) readsHalf(i int) bool {
	v := n.reads[i].same()
	switch {
	case !v.float():
		return false
	case n.precision == inHalf:
		return n.takes(i)
	default:
		// Shapes and casts to other types take what is there.
		return v.half && n.known && n.operator.class == observe
	}
}

// stays says that a node is needed; those that read it are looked at before.
func (c *converter) stays(n *node) bool {
	if n.op != "Cast" || len(n.gives) != 1 || n.gives[0] == nil {
		return true
	}
	switch out := n.gives[0]; {
	case out.alias != nil, out.narrows != nil:
		return false
	case out.widens != nil:
		return out.wantFull || out.pinned || len(out.readers) == 0
	}
	return true
}

// free says that a value's FP16 form is made of constants, not by a Cast.
func (v *value) free() bool { return v.weights != nil && v.flexible }

// onlyHalf says that a constant is left in FP16 alone, under its own name.
func (v *value) onlyHalf() bool { return v.free() && v.wantHalf && !v.wantFull && !v.pinned }

// nameValues gives every value its names in both precisions.
func (c *converter) nameValues() {
	taken := map[string]bool{}
	for name := range c.table {
		taken[name] = true
	}
	for _, n := range c.graph.nodes {
		for _, name := range n.captured {
			taken[name] = true
		}
	}
	fresh := func(name string) string { return unused(taken, name) }
	for _, v := range c.order {
		v.fullName, v.halfName = v.name, v.name
		switch {
		case v.alias != nil:
			v.fullName, v.halfName = v.same().fullName, v.same().halfName
		case v.narrows != nil:
			v.fullName = v.narrows.same().halfName
		case !v.float():
		case v.widens != nil:
			v.halfName = v.widens.fullName
		case v.half && v.pinned:
			v.halfName = fresh(v.name + "_fp16")
		case v.half && v.wantFull:
			v.fullName = fresh(v.name + "_fp32")
		case !v.half && v.wantHalf && !v.onlyHalf():
			v.halfName = fresh(v.name + "_fp16")
		}
	}
}

// unused makes a name that is not taken, and takes it.
func unused(taken map[string]bool, name string) string {
	for taken[name] {
		name += "_"
	}
	taken[name] = true
	return name
}

// rewriteGraph puts the graph together again.
func (c *converter) rewriteGraph() piece {
	var out, nodes piece
	c.names = map[string]bool{}
	for _, n := range c.graph.nodes {
		c.names[n.name] = true
	}
	for _, v := range c.order {
		if v.producer == nil {
			c.cast(&nodes, v)
		}
	}
	for _, n := range c.graph.nodes {
		if c.stays(n) {
			c.rewriteNode(&nodes, n)
		} else if out := n.gives[0]; out.alias != nil || out.narrows != nil || out.widens != nil {
			c.report.CastsRemoved++
		}
		for _, v := range n.gives {
			if v != nil {
				c.cast(&nodes, v)
			}
		}
	}
	initializer, node, info := 0, 0, 0
	for _, f := range c.graph.fields {
		switch {
		case f.Message(onnx.GraphNode):
			if node == 0 {
				out.join(nodes)
			}
			node++
		case f.Message(onnx.GraphInitializer):
			c.rewriteInitializer(&out, f, c.graph.initializers[initializer])
			initializer++
		case f.Message(onnx.GraphValueInfo):
			c.rewriteInfo(&out, f, c.graph.infos[info].name)
			info++
		default:
			out.append(f.Raw)
		}
	}
	return out
}

// cast puts in what gives a value in the precision that it is not made in.
func (c *converter) cast(to *piece, v *value) {
	switch {
	case !v.float() || v.alias != nil || v.widens != nil || v.free():
	case v.half && (v.wantFull || v.pinned):
		c.castNode(to, v.halfName, v.fullName, float32s)
	case !v.half && v.wantHalf:
		c.castNode(to, v.fullName, v.halfName, float16s)
	}
}

func (c *converter) castNode(to *piece, from, name string, kind elementType) {
	c.report.Casts++
	attribute := onnx.AppendText(nil, onnx.AttributeName, "to")
	attribute = onnx.AppendInteger(attribute, onnx.AttributeInt, int64(kind))
	attribute = onnx.AppendInteger(attribute, onnx.AttributeType, onnx.AttributeTypeInt)
	message := onnx.AppendText(nil, onnx.NodeInput, from)
	message = onnx.AppendText(message, onnx.NodeOutput, name)
	message = onnx.AppendText(message, onnx.NodeName, unused(c.names, name+"_cast"))
	message = onnx.AppendText(message, onnx.NodeOperator, "Cast")
	message = onnx.AppendMessage(message, onnx.NodeAttribute, attribute)
	to.append(onnx.AppendMessage(nil, onnx.GraphNode, message))
}

// rewriteNode writes a node with the names that its values have now. All its
// other fields stay as they are.
func (c *converter) rewriteNode(to *piece, n *node) {
	c.report.count(n)
	if (n.op == "Constant" || n.op == "ConstantOfShape") && n.gives[0] != nil && n.gives[0].free() {
		c.rewriteConstant(to, n)
		return
	}
	var message piece
	input, output := 0, 0
	for _, f := range n.fields {
		switch {
		case f.Message(onnx.NodeInput):
			c.rename(&message, f, n.readName(input))
			input++
		case f.Message(onnx.NodeOutput):
			c.rename(&message, f, n.giveName(output))
			output++
		default:
			message.append(f.Raw)
		}
	}
	to.message(onnx.GraphNode, message)
}

func (c *converter) rename(to *piece, f onnx.Field, name string) {
	if string(f.Bytes) == name {
		to.append(f.Raw)
		return
	}
	to.append(onnx.AppendText(nil, f.Number, name))
}

func (n *node) readName(i int) string {
	v := n.reads[i]
	switch {
	case v == nil:
		return ""
	case n.readsHalf(i):
		return v.halfName
	default:
		return v.fullName
	}
}

func (n *node) giveName(i int) string {
	v := n.gives[i]
	switch {
	case v == nil:
		return ""
	case v.half:
		return v.halfName
	default:
		return v.fullName
	}
}

// rewriteConstant writes a node that gives constants once for each precision
// that is wanted.
func (c *converter) rewriteConstant(to *piece, n *node) {
	v := n.gives[0]
	if !v.onlyHalf() {
		var message piece
		for _, f := range n.fields {
			message.append(f.Raw)
		}
		to.message(onnx.GraphNode, message)
	}
	if !v.wantHalf {
		return
	}
	var message piece
	input := 0
	for _, f := range n.fields {
		switch {
		case f.Message(onnx.NodeInput):
			c.rename(&message, f, n.readName(input))
			input++
		case f.Message(onnx.NodeOutput):
			c.rename(&message, f, v.halfName)
		case f.Message(onnx.NodeName) && !v.onlyHalf():
			message.append(onnx.AppendText(nil, onnx.NodeName, unused(c.names, n.name+"_fp16")))
		case f.Message(onnx.NodeAttribute): // its value is the only one
		default:
			message.append(f.Raw)
		}
	}
	attribute := newPiece(onnx.AppendText(nil, onnx.AttributeName, "value"))
	attribute.join(v.weights.half(onnx.AttributeTensor, v.weights.name))
	attribute.append(onnx.AppendInteger(nil, onnx.AttributeType, onnx.AttributeTypeTensor))
	message.message(onnx.NodeAttribute, attribute)
	to.message(onnx.GraphNode, message)
	c.report.converted(v.weights)
}

// rewriteInitializer writes an initializer in the precisions that are wanted.
func (c *converter) rewriteInitializer(to *piece, f onnx.Field, t *tensor) {
	v := c.table[t.name]
	half := v.free() && v.wantHalf
	if !half || !v.onlyHalf() {
		if t.external != nil {
			to.message(onnx.GraphInitializer, newPiece(c.place(t, t.name, false)))
		} else {
			to.append(f.Raw)
		}
	}
	if !half {
		return
	}
	c.report.converted(t)
	if t.external != nil {
		to.message(onnx.GraphInitializer, newPiece(c.place(t, v.halfName, true)))
	} else {
		to.join(t.half(onnx.GraphInitializer, v.halfName))
	}
}

// rewriteInfo writes the type of a value, or nothing if there is no such value
// any more.
func (c *converter) rewriteInfo(to *piece, f onnx.Field, name string) {
	v := c.table[name]
	switch {
	case v == nil:
		to.append(f.Raw)
	case v.alias != nil || v.narrows != nil || v.widens != nil && !v.wantFull && !v.pinned:
	case v.half && !v.pinned || v.onlyHalf():
		to.append(onnx.AppendMessage(nil, onnx.GraphValueInfo, replaceType(f.Bytes, []protowire.Number{onnx.InfoType, onnx.TypeTensor})))
	default:
		to.append(f.Raw)
	}
}

// replaceType writes FP16 into a ValueInfoProto; path leads to the message that
// holds the element type. The message was parsed before.
func replaceType(message []byte, path []protowire.Number) []byte {
	fields, _ := onnx.Parse(message)
	var out []byte
	for _, f := range fields {
		switch {
		case len(path) > 0 && f.Message(path[0]):
			out = onnx.AppendMessage(out, f.Number, replaceType(f.Bytes, path[1:]))
		case len(path) == 0 && f.Is(onnx.TensorTypeElem, protowire.VarintType):
			out = onnx.AppendInteger(out, onnx.TensorTypeElem, int64(float16s))
		default:
			out = append(out, f.Raw...)
		}
	}
	return out
}
