package mixed

import (
	"slices"
)

// precision is what a node computes in.
type precision int

const (
	asItIs precision = iota // not with float32 values
	inFull
	inHalf
	undecided // a move whose values are there in both
)

// Why nodes stay in FP32.
const (
	reasonForced      = "the options say so"
	reasonUnknown     = "unknown operator"
	reasonControl     = "holds graphs"
	reasonClass       = "sums, exponentials and quotients stay in FP32"
	reasonUnfit       = "reads values above 65504"
	reasonLost        = "reads a number that is too small for FP16"
	reasonBefore      = "stands before the first product of matrices"
	reasonAfter       = "stands after the last product of matrices with weights"
	reasonDivision    = "divides by what it is given"
	reasonStatistic   = "computes with a mean, a norm or a maximum"
	reasonReduced     = "gives what only sums read"
	reasonLargePool   = "averages over many values"
	reasonDequantized = "reads dequantized values"
	reasonInput       = "reads FP32 values"
	reasonAlone       = "no product of matrices in FP16 is beside it"
)

// largestPool is how many values AveragePool may sum in FP16: with 64, the sum
// keeps 5 of its 11 bits for the last of them.
const largestPool = 64

// decide chooses the precision of every node.
func (c *converter) decide() {
	c.findConstants()
	c.findPlaces()
	c.findTowards()
	reduced := c.onlyReduced()
	for _, n := range c.graph.nodes {
		c.findStatistics(n)
		n.set(c.precisionOf(n, reduced))
	}
	// Moves of weights go by those who read them, and so do moves of values that
	// are cast anyway.
	for _, n := range slices.Backward(c.graph.nodes) {
		moved := n.precision == inFull && n.operator.class == move && n.reason == reasonInput && castAnyway(n)
		if n.precision == undecided {
			n.set(inFull, reasonInput)
			moved = true
		}
		if moved && readInHalf(n) {
			n.set(inHalf, "")
		}
	}
	c.dropIslands()
}

// set sets a node's precision, and what follows for its values.
func (n *node) set(precision precision, reason string) {
	for _, v := range n.typed() {
		switch {
		case v == nil:
		case precision == inHalf && n.precision != inHalf:
			v.halfReaders++
		case precision != inHalf && n.precision == inHalf:
			v.halfReaders--
		}
	}
	n.precision, n.reason = precision, reason
	for i, v := range n.gives {
		if v != nil && v.float() {
			v.half = precision == inHalf && n.outputKind(i) == typeT
		}
	}
}

// castAnyway says that all that a move reads is wanted in FP16 by others.
func castAnyway(n *node) bool {
	return !slices.ContainsFunc(n.typed(), func(v *value) bool {
		return v == nil || v.unfit || v.halfReaders == 0
	})
}

// dropIslands takes back FP16 where no product of matrices gains by it: there
// it would cost casts only.
func (c *converter) dropIslands() {
	reached := map[*node]bool{}
	var open []*node
	reach := func(n *node) {
		if n != nil && n.precision == inHalf && !reached[n] {
			reached[n] = true
			open = append(open, n)
		}
	}
	for _, n := range c.graph.nodes {
		if n.operator.class == work {
			reach(n)
		}
	}
	for len(open) > 0 {
		n := open[len(open)-1]
		open = open[:len(open)-1]
		for _, v := range n.typed() {
			if v != nil {
				reach(v.same().producer)
			}
		}
		for _, v := range n.gives {
			if v != nil && v.half {
				for _, reader := range v.readers {
					if reader.takesValue(v) {
						reach(reader)
					}
				}
			}
		}
	}
	for _, n := range c.graph.nodes {
		if n.precision == inHalf && !reached[n] {
			n.set(inFull, reasonAlone)
		}
	}
}

// readInHalf says that a move's values are read, and by FP16 nodes only.
func readInHalf(n *node) bool {
	read := false
	for _, v := range n.gives {
		if v == nil {
			return false
		}
		if v.pinned {
			return false
		}
		for _, reader := range v.readers {
			if reader.precision != inHalf || !reader.takesValue(v) {
				return false
			}
			read = true
		}
	}
	return read
}

func (c *converter) forced(n *node) bool {
	return slices.Contains(c.options.KeepOperators, n.op) || n.name != "" && slices.Contains(c.options.KeepNodes, n.name)
}

// precisionOf decides on one node; those before it are decided.
func (c *converter) precisionOf(n *node, reduced map[*value]bool) (precision, string) {
	touches := func(list []*value) bool {
		return slices.ContainsFunc(list, func(v *value) bool { return v != nil && v.float() })
	}
	switch {
	case !touches(n.reads) && !touches(n.gives):
		return asItIs, ""
	case !n.known:
		return inFull, reasonUnknown
	case n.operator.class == observe:
		return asItIs, ""
	case c.forced(n):
		return inFull, reasonForced
	case n.operator.class == control:
		return inFull, reasonControl
	case n.operator.class == full, n.operator.class == quantised:
		return inFull, reasonClass
	case n.kind != float32s:
		return asItIs, ""
	case n.operator.class == move:
		return c.precisionOfMove(n)
	}
	has := func(test func(*value) bool) bool {
		return slices.ContainsFunc(n.typed(), func(v *value) bool { return v != nil && test(v) })
	}
	if has(func(v *value) bool { return v.unfit }) {
		return inFull, reasonUnfit
	}
	if n.operator.class == work {
		switch {
		case has(func(v *value) bool { return v.producer != nil && v.producer.op == "DequantizeLinear" }):
			return inFull, reasonDequantized
		case !n.leadTo:
			return inFull, reasonAfter
		}
		return inHalf, ""
	}
	_, some := statistics(n)
	switch {
	case !n.heavyAbove:
		return inFull, reasonBefore
	case !n.leadTo:
		return inFull, reasonAfter
	case some:
		return inFull, reasonStatistic
	case n.op == "Div" && len(n.reads) == 2 && n.reads[1] != nil && !n.reads[1].constant:
		return inFull, reasonDivision
	case has(func(v *value) bool { return v.lost }):
		return inFull, reasonLost
	case n.op == "AveragePool" && poolSize(n) > largestPool:
		return inFull, reasonLargePool
	case slices.ContainsFunc(n.gives, func(v *value) bool { return reduced[v] }):
		return inFull, reasonReduced
	}
	return inHalf, ""
}

func poolSize(n *node) int64 {
	size := int64(1)
	for _, side := range n.attributes["kernel_shape"].ints {
		if side < 1 || side > largestPool {
			return largestPool + 1
		}
		size *= min(side, largestPool+1)
		size = min(size, largestPool+1)
	}
	return size
}

// precisionOfMove goes by where a move's values come from.
func (c *converter) precisionOfMove(n *node) (precision, string) {
	half, fullToo := false, false
	for _, v := range n.typed() {
		switch {
		case v == nil:
		case v.unfit:
			return inFull, reasonUnfit
		case v.flexible:
		case v.same().half:
			half = true
		default:
			fullToo = true
		}
	}
	switch {
	case half && fullToo:
		// Casting up loses nothing.
		if n.towards {
			return inHalf, ""
		}
		return inFull, reasonInput
	case half:
		return inHalf, ""
	case fullToo:
		return inFull, reasonInput
	}
	return undecided, ""
}
