package mixed

import (
	"maps"
	"slices"
)

// Report is what a conversion did.
type Report struct {
	// Half and Full are how many nodes compute in FP16 and in FP32, without
	// constants, casts and what only reads shapes.
	Half, Full int
	// Operators are the same by the type of operator.
	Operators map[string]Count
	// Kept are the products of matrices that stay in FP32, in the graph's order.
	Kept []Kept
	// Unknown are the types of unknown operators, all of which stay in FP32, in
	// the order of the alphabet.
	Unknown []string
	// Unmatched are the names of [Options] that no node has; an operator may be
	// missing from one graph of a bundle and be in another.
	Unmatched []string

	// Casts are how many Cast nodes were put in, CastsRemoved how many of the
	// graph's own were not needed any more.
	Casts, CastsRemoved int

	// Weights are how many tensors were converted to FP16, without those that
	// were stored as FP16 already.
	Weights int
	// Unfit names the tensors that stay in FP32 because a magnitude is above
	// 65504; so do the nodes that read them.
	Unfit []string
	// Subnormal are how many values of converted tensors are below 2^-14 and lose
	// bits, Flushed how many others become zero, NotFinite how many are NaN or
	// infinite, before and after.
	Subnormal, Flushed, NotFinite int64

	// WeightsFile is the name of the file beside the graph that [ConvertFile]
	// wrote weights to; empty: none.
	WeightsFile string
}

// Count is a number of nodes by precision.
type Count struct{ Half, Full int }

// Kept is a node that stays in FP32.
type Kept struct {
	Node     string // its name, or its first output's
	Operator string
	Reason   string
}

// begin notes what is known before the graph is written.
func (r *Report) begin(c *converter) {
	r.Operators = map[string]Count{}
	operators, names, unknown := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, n := range c.graph.nodes {
		operators[n.op], names[n.name] = true, true
		if n.reason == reasonUnknown {
			unknown[n.op] = true
		}
	}
	r.Unknown = slices.Sorted(maps.Keys(unknown))
	for _, name := range c.options.KeepOperators {
		if !operators[name] {
			r.Unmatched = append(r.Unmatched, name)
		}
	}
	for _, name := range c.options.KeepNodes {
		if !names[name] {
			r.Unmatched = append(r.Unmatched, name)
		}
	}
	for _, v := range c.order {
		if v.float() && v.weights != nil && v.unfit {
			r.Unfit = append(r.Unfit, v.name)
		}
	}
}

// count counts a node that is written.
func (r *Report) count(n *node) {
	half := n.precision == inHalf
	switch {
	case n.op == "Constant" || n.op == "ConstantOfShape" || n.known && n.operator.class == observe:
		return
	case n.precision == asItIs && n.kind == float16s:
		half = true // as it was
	case n.precision == asItIs:
		return
	}
	count := r.Operators[n.op]
	if half {
		r.Half++
		count.Half++
	} else {
		r.Full++
		count.Full++
	}
	r.Operators[n.op] = count
	if n.known && n.operator.class == work && !half {
		kept := Kept{Node: n.name, Operator: n.op, Reason: n.reason}
		if kept.Node == "" {
			kept.Node = n.outputs[0]
		}
		r.Kept = append(r.Kept, kept)
	}
}

// converted counts a tensor that is written in FP16.
func (r *Report) converted(t *tensor) {
	r.Weights++
	r.Subnormal += t.extent.subnormal
	r.Flushed += t.extent.flushed
	r.NotFinite += t.extent.notFinite
}
