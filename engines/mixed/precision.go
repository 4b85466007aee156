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
		n.precision, n.reason = c.precisionOf(n, reduced)
		for i, v := range n.gives {
			if v != nil && v.float() {
				v.half = n.precision == inHalf && n.outputKind(i) == typeT
			}
		}
	}
	// Moves of weights go by those who read them.
	for _, n := range slices.Backward(c.graph.nodes) {
		if n.precision != undecided {
			continue
		}
		n.precision, n.reason = inFull, reasonInput
		if readInHalf(n) {
			n.precision, n.reason = inHalf, ""
			for _, v := range n.gives {
				v.half = v.float()
			}
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
			if reader.precision != inHalf || !slices.Contains(reader.typed(), v) {
				return false
			}
			read = true
		}
	}
	return read
}

// findConstants finds values that exist before a run, and those that FP16
// cannot hold.
func (c *converter) findConstants() {
	note := func(v *value, t *tensor) {
		v.constant = true
		v.weights, v.unfit, v.lost = t, !t.extent.fits(), t.lost()
		v.flexible = !v.unfit
	}
	for _, v := range c.order {
		if v.float() && v.producer == nil && v.weights != nil {
			note(v, v.weights)
		}
	}
	for _, n := range c.graph.nodes {
		if !n.known || len(n.gives) == 0 || n.gives[0] == nil {
			continue
		}
		constant := len(n.reads) > 0
		unfit := false
		for _, v := range n.reads {
			constant = constant && (v == nil || v.constant)
			unfit = unfit || v != nil && v.unfit
		}
		out := n.gives[0]
		switch n.op {
		case "Constant", "ConstantOfShape":
			out.constant = true
			if t := n.constantTensor(); t != nil && out.float() {
				t.extent, _ = measure(t.values(), t.size()) // reading memory does not fail
				note(out, t)
			}
			continue
		case "Add", "Sub", "Mul", "Neg", "Abs":
			out.unfit = unfit
		case "Cast":
			out.unfit = unfit
			out.lost = constant && n.reads[0] != nil && n.reads[0].lost
			out.flexible = out.widens != nil || out.alias != nil && n.reads[0].flexible
		}
		random := n.op == "Bernoulli" || n.op == "Dropout"
		for _, v := range n.gives {
			if v != nil {
				v.constant = constant && !random && n.operator.class != control
			}
		}
		if n.operator.class == move {
			c.moveConstants(n)
		}
	}
}

// moveConstants hands on what is known of the values that a node moves.
func (c *converter) moveConstants(n *node) {
	flexible, unfit, lost := true, false, false
	for _, v := range n.typed() {
		if v != nil {
			flexible, unfit, lost = flexible && v.flexible, unfit || v.unfit, lost || v.lost
		}
	}
	for _, v := range n.gives {
		if v != nil && v.float() {
			v.flexible, v.unfit, v.lost = flexible && !c.forced(n), unfit, v.constant && lost
		}
	}
}

// weighted says that a node multiplies with weights. A filter of one channel is
// none: it blurs a map.
func weighted(n *node) bool {
	if !n.known || n.operator.class != work || n.kind != float32s && n.kind != float16s {
		return false
	}
	for i, v := range n.reads {
		if v == nil || !v.constant || i == 2 && n.op != "Einsum" { // the third is a bias
			continue
		}
		conv := n.op == "Conv" || n.op == "ConvTranspose"
		source := v.same()
		if source.widens != nil {
			source = source.widens
		}
		if t := source.weights; conv && t != nil && len(t.dims) > 2 && t.dims[0] == 1 && t.dims[1] == 1 {
			continue
		}
		return true
	}
	return false
}

// findPlaces finds the nodes between the first product of matrices and the last
// with weights.
func (c *converter) findPlaces() {
	isWork := func(n *node) bool { return n.known && n.operator.class == work }
	for _, n := range c.graph.nodes {
		for _, v := range n.reads {
			if v != nil && v.producer != nil && (v.float() || v.kind == float16s) {
				n.heavyAbove = n.heavyAbove || v.producer.heavyAbove || isWork(v.producer)
			}
		}
	}
	for _, n := range slices.Backward(c.graph.nodes) {
		n.leadTo = n.leadTo || weighted(n)
		if !n.leadTo {
			continue
		}
		for _, v := range n.reads {
			if v != nil && v.producer != nil && (v.float() || v.kind == float16s) {
				v.producer.leadTo = true
			}
		}
	}
}

// findTowards finds the values that a node reads, after moves, that computes in
// FP16 if nothing is in its way.
func (c *converter) findTowards() {
	c.towards = map[*value]bool{}
	for _, n := range slices.Backward(c.graph.nodes) {
		for _, v := range n.gives {
			c.towards[v] = v != nil && slices.ContainsFunc(v.readers, func(reader *node) bool {
				switch {
				case !reader.known || !reader.leadTo:
					return false
				case reader.operator.class == move:
					return slices.ContainsFunc(reader.gives, func(v *value) bool { return c.towards[v] })
				}
				return reader.operator.class == work || reader.operator.class == pointwise
			})
		}
	}
}

// onlyReduced finds values that nothing but reductions read.
func (c *converter) onlyReduced() map[*value]bool {
	found := map[*value]bool{}
	for _, n := range slices.Backward(c.graph.nodes) {
		for _, v := range n.gives {
			if v == nil || v.pinned || len(v.readers) == 0 {
				continue
			}
			found[v] = !slices.ContainsFunc(v.readers, func(reader *node) bool {
				if !reader.known {
					return true
				}
				passes := reader.operator.class == move && len(reader.gives) > 0 && reader.gives[0] != nil && found[reader.gives[0]]
				return !reader.operator.reduces && !passes
			})
		}
	}
	return found
}

// findStatistics says of what a node gives whether it is a statistic of other
// values, as the mean in a normalisation is.
func (c *converter) findStatistics(n *node) {
	statistic := n.operator.reduces
	if n.known && (n.operator.class == pointwise || n.operator.class == move || n.operator.arithmetic || n.op == "Cast") {
		all, one := statistics(n)
		statistic = all && one
	}
	for _, v := range n.gives {
		if v != nil {
			v.statistic = statistic
		}
	}
}

// statistics says whether all or some of what a node reads, without constants,
// are statistics.
func statistics(n *node) (all, some bool) {
	all = true
	for _, v := range n.reads {
		if v == nil || v.constant || !v.float() {
			continue
		}
		all, some = all && v.statistic, some || v.statistic
	}
	return all, some
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
		if slices.ContainsFunc(n.gives, func(v *value) bool { return c.towards[v] }) {
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
