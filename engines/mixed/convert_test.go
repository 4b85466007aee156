package mixed

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"gladd/engines/enginetest"
)

// Each model has a product of matrices before and after what is tested, so that
// it stands between two: "x" of 2x4, "first" what the first gives, "last" what
// the second takes.
func between(opset int64, nodes [][]byte, tensors ...[]byte) model {
	m := model{opset: opset, inputs: [][]byte{shaped("x", 2, 4)}, outputs: [][]byte{shaped("y", 2, 4)}}
	m.tensors = append([][]byte{initializer("w1", ramp(16), 4, 4), initializer("w2", ramp(16), 4, 4)}, tensors...)
	m.nodes = append(m.nodes, op("MatMul", "x w1", "first"))
	m.nodes = append(m.nodes, nodes...)
	m.nodes = append(m.nodes, op("MatMul", "last w2", "y"))
	return m
}

// precisions lists a converted graph's nodes as "Operator" in FP16 and
// "Operator:32" in FP32, without constants, by the type of their first float
// value.
func precisions(t testing.TB, converted []byte) []string {
	t.Helper()
	_, g, err := parseModel(converted)
	if err != nil {
		t.Fatal(err)
	}
	c := &converter{graph: g}
	if err := c.values(); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, n := range g.nodes {
		if n.op == "Constant" || n.op == "ConstantOfShape" {
			continue
		}
		kind := unknown
		for _, v := range append(slices.Clone(n.reads), n.gives...) {
			if v != nil && (v.float() || v.kind == float16s) {
				kind = v.kind
				break
			}
		}
		if n.op == "Cast" {
			kind = n.gives[0].kind
		}
		switch kind {
		case float16s:
			list = append(list, n.op)
		case float32s:
			list = append(list, n.op+":32")
		}
	}
	return list
}

// The whole graph is written out for each case: which node computes in what, and
// where the casts stand.
func TestConvert(t *testing.T) {
	enginetest.Backend(t)
	const start, end = "Cast MatMul ", "MatMul Cast:32"
	attention := [][]byte{
		op("Mul", "first quarter", "scaled"), op("Transpose", "first", "keys", integers("perm", 1, 0)), op("MatMul", "scaled keys", "logits"),
		op("Softmax", "logits", "shares", integer("axis", -1)), op("MatMul", "shares first", "last"),
	}
	axis := initializer("axis", []int64{-1}, 1)
	two := initializer("two", []float32{2})
	epsilon := initializer("epsilon", []float32{1e-5})
	normalisation := func(square, back string) [][]byte {
		reduce := func(in, out string) []byte { return op("ReduceMean", in+" axis", out, integer("keepdims", 1)) }
		nodes := [][]byte{reduce("first", "mean"), op("Sub", "first mean", "centred")}
		if square == "Pow" {
			nodes = append(nodes, op("Pow", "centred two", "square"))
		} else {
			nodes = append(nodes, op("Mul", "centred centred", "square"))
		}
		nodes = append(nodes, reduce("square", "variance"), op("Add", "variance epsilon", "safe"), op("Sqrt", "safe", "deviation"))
		if back == "Div" {
			nodes = append(nodes, op("Div", "centred deviation", "unit"))
		} else {
			nodes = append(nodes, op("Reciprocal", "deviation", "inverse"), op("Mul", "centred inverse", "unit"))
		}
		return append(nodes, op("Mul", "unit gamma", "last"))
	}
	gamma := initializer("gamma", ramp(4), 4)

	for name, test := range map[string]struct {
		model model
		want  string
		check func(Report) error
	}{
		"pointwise": {model: between(17, [][]byte{op("Relu", "first", "last")}), want: start + "Relu " + end},
		"attention": {
			model: between(17, attention, initializer("quarter", []float32{0.25})),
			want:  start + "Mul Transpose MatMul Cast:32 Softmax:32 Cast MatMul " + end,
		},
		"einsum": {
			model: between(17, [][]byte{op("Einsum", "first w2", "last", text("equation", "ij,jk->ik"))}),
			want:  start + "Einsum " + end,
		},
		"layer normalisation": {
			model: between(17, [][]byte{op("LayerNormalization", "first gamma", "last")}, gamma),
			want:  start + "Cast:32 LayerNormalization:32 Cast " + end,
		},
		"normalisation in parts": {
			model: between(18, normalisation("Pow", "Div"), axis, two, epsilon, gamma),
			want:  start + "Cast:32 ReduceMean:32 Sub:32 Pow:32 ReduceMean:32 Add:32 Sqrt:32 Div:32 Cast Mul " + end,
		},
		"normalisation by products": {
			model: between(18, normalisation("Mul", "Reciprocal"), axis, epsilon, gamma),
			want:  start + "Cast:32 ReduceMean:32 Sub:32 Mul:32 ReduceMean:32 Add:32 Sqrt:32 Reciprocal:32 Mul:32 Cast Mul " + end,
		},
		"the axes as an attribute, opset 13": {
			model: between(13, [][]byte{op("ReduceMean", "first", "mean", integers("axes", -1), integer("keepdims", 1)), op("Sub", "first mean", "last")}),
			want:  start + "Cast:32 ReduceMean:32 Sub:32 Cast " + end,
		},
		"the axes as an input, opset 21": {
			model: between(21, [][]byte{op("ReduceMean", "first axis", "mean", integer("keepdims", 1)), op("Sub", "first mean", "last")}, axis),
			want:  start + "Cast:32 ReduceMean:32 Sub:32 Cast " + end,
		},
		"a sum of squares": {
			model: between(18, [][]byte{op("Mul", "first first", "square"), op("ReduceSum", "square axis", "sum"), op("Sqrt", "sum", "norm"), op("Div", "first norm", "last")}, axis),
			want:  start + "Cast:32 Mul:32 ReduceSum:32 Sqrt:32 Div:32 Cast " + end,
		},
		"softmax in parts": {
			model: between(18, [][]byte{
				op("ReduceMax", "first axis", "most"), op("Sub", "first most", "below"), op("Exp", "below", "powers"),
				op("ReduceSum", "powers axis", "sum"), op("Div", "powers sum", "last"),
			}, axis),
			want: start + "Cast:32 ReduceMax:32 Sub:32 Exp:32 ReduceSum:32 Div:32 Cast " + end,
		},
		"a number that FP16 would lose": {
			model: between(17, [][]byte{op("Max", "first tiny", "last")}, initializer("tiny", []float32{1e-8})),
			want:  start + "Cast:32 Max:32 Cast " + end,
		},
		"gelu": {
			model: between(17, [][]byte{
				op("Div", "first root", "d"), op("Erf", "d", "e"), op("Add", "e one", "a"), op("Mul", "first a", "m"), op("Mul", "m half", "last"),
			}, initializer("root", []float32{math.Sqrt2}), initializer("one", []float32{1}), initializer("half", []float32{0.5})),
			want: start + "Div Erf Add Mul Mul " + end,
		},
		"division by a value": {
			model: between(17, [][]byte{op("Add", "first three", "more"), op("Div", "first more", "last")}, initializer("three", []float32{5})),
			want:  "Cast MatMul Cast:32 Add Cast:32 Div:32 Cast " + end,
		},
		"a large pool": {
			model: between(17, [][]byte{
				op("Reshape", "first plane", "p"), op("AveragePool", "p", "a", integers("kernel_shape", 9, 9), integers("pads", 4, 4, 4, 4)), op("Reshape", "a back", "last"),
			}, initializer("plane", []int64{1, 1, 2, 4}, 4), initializer("back", []int64{2, 4}, 2)),
			want: start + "Reshape Cast:32 AveragePool:32 Reshape:32 Cast " + end,
		},
		"clip with bounds as inputs": {
			model: between(17, [][]byte{op("Clip", "first low high", "last")}, initializer("low", []float32{-0.5}), initializer("high", []float32{0.5})),
			want:  start + "Clip " + end,
		},
		"clip with one bound": {
			model: between(17, [][]byte{op("Clip", "first - high", "last")}, initializer("high", []float32{0.5})),
			want:  start + "Clip " + end,
		},
		"resize: scales and roi stay FP32": {
			model: between(17, [][]byte{
				op("Reshape", "first plane", "p"), op("Resize", "p roi scales", "r", text("mode", "linear")), op("Resize", "r roi shrink", "s", text("mode", "linear")), op("Reshape", "s back", "last"),
			}, initializer("plane", []int64{1, 1, 2, 4}, 4), initializer("back", []int64{2, 4}, 2), initializer("roi", []float32{}, 0),
				initializer("scales", []float32{1, 1, 2, 2}, 4), initializer("shrink", []float32{1, 1, 0.5, 0.5}, 4)),
			want: start + "Reshape Resize Resize Reshape " + end,
		},
		"constants": {
			model: between(17, [][]byte{
				op("Constant", "", "c", tensorAttribute(initializer("", []float32{0.5}))), op("Mul", "first c", "m"),
				op("Constant", "", "f", number("value_float", 0.25)), op("Add", "m f", "last"),
			}),
			want: start + "Mul Add " + end,
		},
		"constants of a shape, a range": {
			model: between(17, [][]byte{
				op("Shape", "first", "shape"), op("ConstantOfShape", "shape", "ones", tensorAttribute(initializer("", []float32{1}, 1))), op("Add", "first ones", "a"),
				op("ConstantOfShape", "shape", "zeros"), op("Sub", "a zeros", "s"), op("Range", "from to step", "range"), op("Mul", "s range", "last"),
			}, initializer("from", []float32{0}), initializer("to", []float32{4}), initializer("step", []float32{1})),
			want: start + "Shape Add Sub Range:32 Cast Mul " + end,
		},
		"where": {
			model: between(17, [][]byte{op("Less", "first zero", "negative"), op("Where", "negative zero first", "last")}, initializer("zero", []float32{0})),
			want:  start + "Cast:32 Less:32 Where " + end,
		},
		"a mask of the lowest number": {
			model: between(17, [][]byte{
				op("Less", "x zero", "masked"), op("Where", "masked lowest first", "m"), op("Softmax", "m", "last"),
			}, initializer("zero", []float32{0}), initializer("lowest", []float32{-math.MaxFloat32})),
			want: "Cast MatMul Cast:32 Less:32 Where:32 Softmax:32 Cast " + end,
			check: func(report Report) error {
				if !slices.Equal(report.Unfit, []string{"lowest"}) {
					return fmt.Errorf("expected lowest to be named, found %v", report.Unfit)
				}
				return nil
			},
		},
		"a mask that is added": {
			model: between(17, [][]byte{op("Mul", "x lowest", "mask"), op("Add", "first mask", "m"), op("Softmax", "m", "last")}, initializer("lowest", []float32{-1e30})),
			want:  "Cast MatMul Cast:32 Mul:32 Add:32 Softmax:32 Cast " + end,
		},
		"concat of both": {
			model: between(17, [][]byte{op("Softmax", "first", "s"), op("Concat", "first s", "c", integer("axis", 0)), op("Slice", "c zero_i two_i", "last")},
				initializer("zero_i", []int64{0}, 1), initializer("two_i", []int64{2}, 1)),
			want: start + "Cast:32 Softmax:32 Cast Concat Slice " + end,
		},
		"split, with an output that nobody reads": {
			model: between(17, [][]byte{op("Split", "first", "one other", integer("axis", 1)), op("Concat", "other one", "last", integer("axis", 1))}),
			want:  start + "Split Concat " + end,
		},
		"gelu as one operator, opset 20": {
			model: between(20, [][]byte{op("Gelu", "first", "last")}),
			want:  start + "Gelu " + end,
		},
		"group normalisation, opset 21": {
			model: between(21, [][]byte{
				op("Reshape", "first plane", "p"), op("GroupNormalization", "p scale bias", "g", integer("num_groups", 2)), op("Reshape", "g back", "last"),
			}, initializer("plane", []int64{1, 4, 2}, 3), initializer("back", []int64{2, 4}, 2), initializer("scale", ramp(4), 4), initializer("bias", ramp(4), 4)),
			want: start + "Reshape Cast:32 GroupNormalization:32 Reshape:32 Cast " + end,
		},
		"a cast that the graph had": {
			model: between(17, [][]byte{op("Cast", "first", "same", integer("to", 1)), op("Relu", "same", "last")}),
			want:  start + "Relu " + end,
			check: func(report Report) error {
				if report.CastsRemoved != 1 || report.Casts != 2 {
					return fmt.Errorf("expected 2 casts put in and 1 removed, found %d and %d", report.Casts, report.CastsRemoved)
				}
				return nil
			},
		},
		"casts down and up that the graph had": {
			model: between(17, [][]byte{op("Cast", "first", "down", integer("to", 10)), op("Cast", "down", "up", integer("to", 1)), op("Relu", "up", "last")}),
			want:  start + "Relu " + end,
			check: func(report Report) error {
				if report.CastsRemoved != 2 {
					return fmt.Errorf("expected 2 casts removed, found %d", report.CastsRemoved)
				}
				return nil
			},
		},
		"timesteps": {
			model: model{
				inputs: [][]byte{shaped("t", 1, 1)}, outputs: [][]byte{shaped("y", 1, 4)},
				tensors: [][]byte{initializer("frequencies", []float32{1, 0.03}, 1, 2), initializer("w", ramp(16), 4, 4)},
				nodes: [][]byte{
					op("Mul", "t frequencies", "angle"), op("Sin", "angle", "s"), op("Cos", "angle", "c"), op("Concat", "s c", "both", integer("axis", 1)), op("MatMul", "both w", "y"),
				},
			},
			want: "Mul:32 Sin:32 Cos:32 Concat:32 Cast MatMul Cast:32",
		},
		"distances": {
			model: model{
				opset: 18, inputs: [][]byte{shaped("x", 2, 4)}, outputs: [][]byte{shaped("y", 2)},
				tensors: [][]byte{initializer("w", ramp(16), 4, 4), initializer("axis", []int64{1}, 1), initializer("one", []float32{1})},
				nodes: [][]byte{
					op("MatMul", "x w", "f"), op("ReduceL2", "f axis", "norm"), op("Div", "f norm", "unit"), op("Transpose", "unit", "across"), op("MatMul", "unit across", "cosine"),
					op("ReduceMin", "cosine axis", "best", integer("keepdims", 0)), op("Sub", "one best", "y"),
				},
			},
			want: "Cast MatMul Cast:32 ReduceL2:32 Div:32 Transpose:32 MatMul:32 ReduceMin:32 Sub:32",
		},
		"nothing to do": {
			model: model{inputs: [][]byte{shaped("x", 2, 4)}, outputs: [][]byte{shaped("y", 2, 4)}, nodes: [][]byte{op("Relu", "x", "y")}},
			want:  "Relu:32",
		},
	} {
		t.Run(name, func(t *testing.T) {
			content := test.model.bytes()
			converted, report := convert(t, content, Options{})
			if found := strings.Join(precisions(t, converted), " "); found != test.want {
				t.Errorf("expected %s\nfound    %s", test.want, found)
			}
			if len(report.Unknown) > 0 {
				t.Errorf("unknown operators: %v", report.Unknown)
			}
			if test.check != nil {
				if err := test.check(report); err != nil {
					t.Error(err)
				}
			}
			compareModels(t, content, converted, 0.01)
		})
	}
}

// compareModels runs a model and its converted form on the same inputs.
func compareModels(t testing.TB, content, converted []byte, tolerance float64) {
	t.Helper()
	inputs := map[string]array{
		"x":    {shape: []int64{2, 4}, floats: []float32{1, -0.5, 0.25, 2, -1, 3, 0.125, -2}},
		"t":    {shape: []int64{1, 1}, floats: []float32{999}},
		"more": {shape: []int64{2, 4}, floats: ramp(8)},
	}
	want := run(t, content, inputs)
	for kind, model := range map[string][]byte{"as it is": converted, "rounded": rounding(t, converted)} {
		if found := difference(t, want, run(t, model, inputs)); found > tolerance {
			t.Errorf("%s: expected the outputs within %v, found %v: %v", kind, tolerance, found, slices.Collect(maps.Values(want)))
		}
	}
}
