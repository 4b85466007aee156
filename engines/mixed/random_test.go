package mixed

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"gladd/engines/enginetest"
)

// randomGraph draws a graph of values of 2x4 that read any before them.
func randomGraph(source *rand.Rand) model {
	m := model{
		opset:  18,
		inputs: [][]byte{shaped("x", 2, 4), shaped("more", 2, 4)},
		tensors: [][]byte{
			initializer("w", ramp(16), 4, 4), initializer("stored", halves(ramp(16)), 4, 4), initializer("v", ramp(8), 2, 4), initializer("axis", []int64{-1}, 1),
			initializer("half", []float32{0.5}), initializer("tiny", []float32{1e-8}), initializer("huge", []float32{1e6}), initializer("scale", ramp(4), 4),
			initializer("from", []int64{0}, 1), initializer("to", []int64{2}, 1), initializer("condition", []uint8{1}),
		},
	}
	m.nodes = append(m.nodes, op("Cast", "stored", "wide", integer("to", 1)))
	values := []string{"x", "more", "v"}
	pick := func() string { return values[source.IntN(len(values))] }
	add := func(operator, inputs, output string, attributes ...[]byte) {
		m.nodes = append(m.nodes, op(operator, inputs, output, attributes...))
	}
	branch := func(operator, input, output string) []byte {
		return graphAttribute(operator, model{nodes: [][]byte{op("Sigmoid", input, output)}, outputs: [][]byte{shaped(output, 2, 4)}})
	}
	for i := range 6 + source.IntN(20) {
		out, a, b := fmt.Sprintf("n%d", i), pick(), pick()
		part := func(name string) string { return out + name }
		switch source.IntN(22) {
		case 0, 1, 2:
			add("MatMul", a+" w", out)
		case 3:
			add("MatMul", a+" wide", out)
		case 4:
			add("Add", a+" "+b, part("sum"))
			add("Mul", part("sum")+" half", out)
		case 5:
			add("Mul", a+" "+b, part("product"))
			add("Tanh", part("product"), out)
		case 6:
			add("Softmax", a, out)
		case 7:
			add("LayerNormalization", a+" scale", out)
		case 8:
			add("ReduceMean", a+" axis", part("mean"))
			add("Sub", a+" "+part("mean"), out)
		case 9:
			add("Concat", a+" "+b, part("both"), integer("axis", 0))
			add("Slice", part("both")+" from to", out)
		case 10:
			add("Transpose", a, part("across"))
			add("Transpose", part("across"), out)
		case 11:
			add("Less", a+" "+b, part("less"))
			add("Where", part("less")+" "+a+" "+b, out)
		case 12:
			add("Cast", a, part("down"), integer("to", 10))
			add("Cast", part("down"), out, integer("to", 1))
		case 13:
			add("Cast", a, out, integer("to", 1))
		case 14:
			add("Max", a+" tiny", out)
		case 15:
			add("Mul", a+" huge", part("large"))
			add("Tanh", part("large"), out)
		case 16:
			add("Identity", a, out)
		case 17:
			add("Cast", "condition", part("flag"), integer("to", 9))
			add("If", part("flag"), out, branch("then_branch", a, part("then")), branch("else_branch", b, part("else")))
		case 18:
			add("Split", a, part("left")+" "+part("right"), integer("axis", 1), integer("num_outputs", 2))
			add("Concat", part("right")+" "+part("left"), out, integer("axis", 1))
		case 19:
			add("Shape", a, part("shape"))
			add("ConstantOfShape", part("shape"), part("ones"), tensorAttribute(initializer("", []float32{0.25}, 1)))
			add("Add", a+" "+part("ones"), out)
		case 20:
			add("com.microsoft:QuickGelu", a, out)
		case 21:
			add("Clip", a+" - half", out)
		}
		values = append(values, out)
		if source.IntN(6) == 0 {
			m.outputs = append(m.outputs, shaped(out, 2, 4))
		}
	}
	last := values[len(values)-1]
	if len(m.outputs) == 0 {
		m.outputs = append(m.outputs, shaped(last, 2, 4))
	}
	return m
}

// Graphs that were put together at random load and compute what they did: no
// node reads two types, no value is missing.
func TestRandomGraphs(t *testing.T) {
	enginetest.Backend(t)
	inputs := map[string]array{"x": {shape: []int64{2, 4}, floats: ramp(8)}, "more": {shape: []int64{2, 4}, floats: ramp(9)[1:]}}
	half := 0
	for seed := range uint64(300) {
		content := randomGraph(rand.New(rand.NewPCG(seed, 0))).bytes()
		converted, report := convert(t, content, Options{})
		half += report.Half
		want, err := tryRun(content, inputs)
		if err != nil {
			t.Fatalf("graph %d is not valid: %v", seed, err)
		}
		found, err := tryRun(converted, inputs)
		if err != nil {
			t.Errorf("graph %d: %v", seed, err)
			continue
		}
		if off := difference(t, want, found); off > 0.02 {
			t.Errorf("graph %d: expected the outputs within 0.02, found them off by %.2g", seed, off)
		}
	}
	if half < 1000 {
		t.Errorf("expected thousands of nodes in FP16, found %d", half)
	}
}
