package mixed

import (
	"slices"
)

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
		case "Sigmoid", "Tanh", "Erf", "HardSigmoid", "Softsign", "Sign", "Clip": // small whatever they read
		case "Cast":
			out.unfit = unfit
			out.lost = constant && n.reads[0] != nil && n.reads[0].lost
			out.flexible = out.widens != nil || out.alias != nil && n.reads[0].flexible
		default:
			out.unfit = unfit && (n.operator.class == work || n.operator.class == pointwise)
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

// findTowards finds the moves whose values are read, after other moves too, by a
// node that computes in FP16 if nothing is in its way.
func (c *converter) findTowards() {
	for _, n := range slices.Backward(c.graph.nodes) {
		for _, v := range n.gives {
			n.towards = n.towards || v != nil && slices.ContainsFunc(v.readers, func(reader *node) bool {
				switch {
				case !reader.known || !reader.leadTo:
					return false
				case reader.operator.class == move:
					return reader.towards
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
