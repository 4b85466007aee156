package mixed

import (
	"math"
	"slices"
	"strings"
	"testing"

	"gladd/engines/enginetest"
	"gladd/internal/onnx"
)

// Graphs that are out of the ordinary compute what they did.
func TestOddGraphs(t *testing.T) {
	enginetest.Backend(t)
	relu := [][]byte{op("Relu", "first", "last")}
	withOutput := func(m model, outputs ...[]byte) model {
		m.outputs = append(m.outputs, outputs...)
		return m
	}
	branch := func(operator string) model {
		return model{nodes: [][]byte{op(operator, "first", "out_"+operator)}, outputs: [][]byte{shaped("out_"+operator, 2, 4)}}
	}
	condition := [][]byte{op("ReduceMax", "first", "most", integer("keepdims", 0)), op("Greater", "most zero", "positive")}
	zero := initializer("zero", []float32{0})
	for name, test := range map[string]struct {
		model model
		want  string // as precisions writes it; empty: what matters is what it computes
		check func(t *testing.T, report Report)
	}{
		"a weight above 65504": {
			model: between(17, [][]byte{op("MatMul", "first heavy", "m"), op("Mul", "m small", "s"), op("Sigmoid", "s", "last")},
				initializer("heavy", append(ramp(15), 70000), 4, 4), initializer("small", []float32{0.01})),
			want: "Cast MatMul Cast:32 MatMul:32 Mul:32 Sigmoid:32 Cast MatMul Cast:32",
			check: func(t *testing.T, report Report) {
				if !slices.Equal(report.Unfit, []string{"heavy"}) || len(report.Kept) != 1 || report.Kept[0] != (Kept{"node_m", "MatMul", reasonUnfit}) {
					t.Errorf("expected the weight and its product to be named, found %+v", report)
				}
			},
		},
		"a weight above 65504 behind moves": {
			model: between(17, [][]byte{op("Identity", "heavy", "same"), op("Transpose", "same", "turned"), op("MatMul", "first turned", "m"), op("Mul", "m small", "s"), op("Sigmoid", "s", "last")},
				initializer("heavy", append(ramp(15), -70000), 4, 4), initializer("small", []float32{0.01})),
			want: "Cast MatMul Cast:32 Identity:32 Transpose:32 MatMul:32 Mul:32 Sigmoid:32 Cast MatMul Cast:32",
		},
		"the largest weight that fits": {
			model: between(17, [][]byte{op("Mul", "first large", "m"), op("Div", "m large", "last")}, initializer("large", []float32{8192})),
			want:  "Cast MatMul Mul Div MatMul Cast:32",
		},
		"NaN and infinite weights": {
			model: between(17, [][]byte{op("Add", "first odd", "last")}, initializer("odd", []float32{0, float32(math.NaN()), 0, float32(math.Inf(1))}, 4)),
			check: func(t *testing.T, report Report) {
				if report.NotFinite != 2 || len(report.Unfit) > 0 {
					t.Errorf("expected 2 values that are not finite, found %+v", report)
				}
			},
		},
		"small weights": {
			model: between(17, [][]byte{op("Add", "first small", "last")}, initializer("small", []float32{1e-9, 0, 3e-6, 1}, 4)),
			check: func(t *testing.T, report Report) {
				if report.Flushed != 1 || report.Subnormal != 1 || report.Weights != 3 {
					t.Errorf("expected one value flushed and one subnormal of 3 weights, found %+v", report)
				}
			},
		},
		"a branch": {
			model: between(17, append(slices.Clone(condition), op("If", "positive", "last", graphAttribute("then_branch", branch("Sigmoid")), graphAttribute("else_branch", branch("Tanh")))), zero),
			want:  "Cast MatMul Cast:32 ReduceMax:32 Greater:32 If:32 Cast MatMul Cast:32",
		},
		"a loop that reads from outside": {
			model: between(17, [][]byte{op("Relu", "first", "seen"), op("Loop", "twice go first", "last", graphAttribute("body", model{
				inputs:  [][]byte{typed("i", int64s), typed("go_in", booleans), shaped("value", 2, 4)},
				nodes:   [][]byte{op("Identity", "go_in", "go_out"), op("Add", "value seen", "sum"), op("Tanh", "sum", "next")},
				outputs: [][]byte{typed("go_out", booleans), shaped("next", 2, 4)},
			}))}, initializer("twice", []int64{2}), boolean("go")),
			want: "Cast MatMul Cast:32 Relu:32 Loop:32 Cast MatMul Cast:32",
		},
		"resize, opset 10": {
			model: between(10, [][]byte{op("Reshape", "first plane", "p"), op("Resize", "p scales", "r", text("mode", "nearest")), op("Reshape", "r back", "last")},
				initializer("plane", []int64{1, 1, 2, 4}, 4), initializer("back", []int64{2, 4}, 2), initializer("scales", []float32{1, 1, 1, 1}, 4)),
			want: "Cast MatMul Reshape Resize Reshape MatMul Cast:32",
		},
		"batch normalisation, opset 13": {
			model: between(13, [][]byte{op("BatchNormalization", "first one nought nought one", "last")}, initializer("one", []float32{1, 2, 1, 1}, 4), initializer("nought", []float32{0, 1, 0, 0}, 4)),
			want:  "Cast MatMul Cast:32 BatchNormalization:32 Cast MatMul Cast:32",
		},
		"a type that only its use tells": {
			model: between(17, [][]byte{op("com.microsoft:QuickGelu", "first", "q"), op("Relu", "q", "r"), op("Transpose", "r", "t", integers("perm", 1, 0)), op("MatMul", "r t", "m"), op("MatMul", "m r", "last")}),
			want:  "Cast MatMul Cast:32 QuickGelu:32 Cast Relu Transpose MatMul MatMul MatMul Cast:32",
		},
		"an unknown operator": {
			model: between(17, [][]byte{op("com.microsoft:QuickGelu", "first", "last", number("alpha", 1))}),
			want:  "Cast MatMul Cast:32 QuickGelu:32 Cast MatMul Cast:32",
			check: func(t *testing.T, report Report) {
				if !slices.Equal(report.Unknown, []string{"QuickGelu"}) {
					t.Errorf("expected QuickGelu to be named, found %v", report.Unknown)
				}
			},
		},
		"a weight of an FP16 and an FP32 node": {
			model: between(17, [][]byte{op("Softmax", "w1", "s"), op("MatMul", "first s", "m"), op("MatMul", "m w1", "last")}),
			want:  "Cast MatMul Softmax:32 Cast MatMul MatMul MatMul Cast:32",
			check: func(t *testing.T, report Report) {
				if report.Weights != 2 || report.Casts != 3 {
					t.Errorf("expected 2 weights converted and 3 casts, found %+v", report)
				}
			},
		},
		"a weight that is an output": {model: withOutput(between(17, relu), shaped("w1", 4, 4)), want: "Cast MatMul Relu MatMul Cast:32"},
		"an input that is an output": {model: withOutput(between(17, relu), shaped("x", 2, 4)), want: "Cast MatMul Relu MatMul Cast:32"},
		"a value within that is an output": {
			model: withOutput(between(17, relu), shaped("first", 2, 4), shaped("last", 2, 4)),
			want:  "Cast MatMul Cast:32 Relu Cast:32 MatMul Cast:32",
		},
		"a cast that is an output": {
			model: withOutput(between(17, [][]byte{op("Cast", "first", "same", integer("to", 1)), op("Relu", "same", "last")}), shaped("same", 2, 4)),
		},
		"a constant that is an output": {
			model: withOutput(between(17, [][]byte{op("Constant", "", "c", tensorAttribute(initializer("", ramp(4), 4))), op("Add", "first c", "last")}), shaped("c", 4)),
			want:  "Cast MatMul Add MatMul Cast:32",
		},
		"float64": {
			model: withOutput(between(17, [][]byte{
				op("Cast", "first", "double", integer("to", 11)), op("Mul", "double factor", "product"), op("Div", "product factor", "back"), op("Cast", "back", "last", integer("to", 1)),
			}, initializer("factor", []float64{1e-30})), typed("product", 11, 2, 4)),
		},
		"integers": {
			model: between(17, [][]byte{op("Cast", "first", "whole", integer("to", 7)), op("Mul", "whole whole", "square"), op("Cast", "square", "f", integer("to", 1)), op("Add", "f first", "last")}),
			want:  "Cast MatMul Cast:32 Cast Add MatMul Cast:32",
		},
		"quantised operators": {
			model: between(17, [][]byte{op("QuantizeLinear", "first scale point", "q"), op("DequantizeLinear", "q scale point", "d"), op("MatMul", "d w1", "last")},
				initializer("scale", []float32{0.02}), initializer("point", []uint8{128})),
			want: "Cast MatMul Cast:32 QuantizeLinear:32 DequantizeLinear:32 MatMul:32 Cast MatMul Cast:32",
		},
		"names that are taken": {
			model: withOutput(between(17, [][]byte{op("Relu", "first", "first_fp16"), op("Add", "first_fp16 w1_", "x_fp16"), op("Softmax", "x_fp16", "x_fp32"), op("Add", "x_fp32 x_fp16", "last")},
				initializer("w1_", ramp(4), 4)), shaped("first", 2, 4)),
		},
		"an initializer that is an input": {
			model: func() model {
				m := between(17, relu)
				m.inputs = append(m.inputs, shaped("more", 2, 4))
				m.tensors = append(m.tensors, initializer("more", ramp(8), 2, 4))
				m.nodes[1] = op("Add", "first more", "last")
				return m
			}(),
			want: "Cast Cast MatMul Add MatMul Cast:32",
		},
		"types that are written down": {
			model: func() model {
				m := between(17, [][]byte{op("Relu", "first", "relu"), op("Softmax", "relu", "last")})
				m.infos = [][]byte{shaped("first", 2, 4), shaped("relu", 2, 4), shaped("last", 2, 4), shaped("w1", 4, 4), shaped("nobody", 3)}
				return m
			}(),
			want: "Cast MatMul Relu Cast:32 Softmax:32 Cast MatMul Cast:32",
		},
		"weights as FP16 with a cast": {
			model: between(17, [][]byte{op("Cast", "stored", "weight", integer("to", 1)), op("MatMul", "first weight", "m"), op("Identity", "weight", "again"), op("MatMul", "m again", "last")},
				initializer("stored", halves(ramp(16)), 4, 4)),
			want: "Cast MatMul MatMul Identity MatMul MatMul Cast:32",
		},
		"FP16 already": {
			model: between(17, [][]byte{op("Cast", "first", "down", integer("to", 10)), op("MatMul", "down stored", "m"), op("Cast", "m", "last", integer("to", 1))}, initializer("stored", halves(ramp(16)), 4, 4)),
			want:  "Cast MatMul MatMul MatMul Cast:32",
		},
		"up and down again": {
			model: between(17, [][]byte{
				op("Cast", "first", "down", integer("to", 10)), op("Cast", "down", "up", integer("to", 1)), op("Cast", "up", "down2", integer("to", 10)),
				op("Cast", "down2", "up2", integer("to", 1)), op("Relu", "up2", "last"),
			}),
			want: "Cast MatMul Relu MatMul Cast:32",
			check: func(t *testing.T, report Report) {
				if report.CastsRemoved != 4 || report.Casts != 2 {
					t.Errorf("expected 4 casts removed and 2 put in, found %+v", report)
				}
			},
		},
		"FP16 weights up and down again": {
			model: between(17, [][]byte{
				op("Cast", "stored", "up", integer("to", 1)), op("Cast", "up", "down", integer("to", 10)), op("Cast", "down", "up2", integer("to", 1)), op("MatMul", "first up2", "last"),
			}, initializer("stored", halves(ramp(16)), 4, 4)),
			want: "Cast MatMul MatMul MatMul Cast:32",
		},
		"a random value": {
			model: between(17, [][]byte{op("Dropout", "first", "last mask")}),
			want:  "Cast MatMul Dropout MatMul Cast:32",
		},
	} {
		t.Run(name, func(t *testing.T) {
			content := test.model.bytes()
			converted, report := convert(t, content, Options{})
			if found := strings.Join(precisions(t, converted), " "); test.want != "" && found != test.want {
				t.Errorf("expected %s\nfound    %s", test.want, found)
			}
			if test.check != nil {
				test.check(t, report)
			}
			compareModels(t, content, converted, 0.01)
		})
	}
}

// boolean is an initializer that holds true.
func boolean(name string) []byte {
	message := onnx.AppendInteger(nil, onnx.TensorType, int64(booleans))
	return onnx.AppendMessage(onnx.AppendText(message, onnx.TensorName, name), onnx.TensorRaw, []byte{1})
}

func halves(values []float32) []uint16 {
	list := make([]uint16, len(values))
	for i, value := range values {
		list[i] = toHalf(value)
	}
	return list
}

// A function of the model's own is an operator that nobody knows; its body stays.
func TestFunctionOfTheModel(t *testing.T) {
	enginetest.Backend(t)
	function := onnx.AppendText(nil, 1, "Double") // FunctionProto.name
	function = onnx.AppendText(onnx.AppendText(function, 4, "a"), 5, "b")
	function = onnx.AppendMessage(function, 7, op("Add", "a a", "b"))
	function = onnx.AppendMessage(function, 9, onnx.AppendInteger(nil, 2, 17)) // opset_import
	function = onnx.AppendText(function, 10, "made.up")
	m := between(17, [][]byte{op("made.up:Double", "first", "last")})
	content := onnx.AppendMessage(m.bytes(), 25, function) // ModelProto.functions
	converted, report := convert(t, content, Options{})
	if want, found := "Cast MatMul Cast:32 Double:32 Cast MatMul Cast:32", strings.Join(precisions(t, converted), " "); found != want {
		t.Errorf("expected %s\nfound    %s", want, found)
	}
	if !slices.Equal(report.Unknown, []string{"Double"}) {
		t.Errorf("expected Double to be named, found %v", report.Unknown)
	}
	compareModels(t, content, converted, 0.01)
}

func TestOptions(t *testing.T) {
	content := between(17, [][]byte{op("Relu", "first", "r"), op("Transpose", "r", "t", integers("perm", 1, 0)), op("MatMul", "r t", "m"), op("MatMul", "m r", "last")}).bytes()
	for name, test := range map[string]struct {
		options   Options
		want      string
		unmatched []string
	}{
		"none":           {Options{}, "Cast MatMul Relu Transpose MatMul MatMul MatMul Cast:32", nil},
		"an operator":    {Options{KeepOperators: []string{"Relu"}}, "Cast MatMul Cast:32 Relu:32 Cast Transpose MatMul MatMul MatMul Cast:32", nil},
		"a node":         {Options{KeepNodes: []string{"node_m"}}, "Cast MatMul Relu Cast:32 Transpose Cast:32 MatMul:32 Cast MatMul MatMul Cast:32", nil},
		"a move":         {Options{KeepNodes: []string{"node_t"}}, "Cast MatMul Relu Cast:32 Transpose:32 Cast MatMul MatMul MatMul Cast:32", nil},
		"all work":       {Options{KeepOperators: []string{"MatMul"}}, "MatMul:32 Relu:32 Transpose:32 MatMul:32 MatMul:32 MatMul:32", nil},
		"nothing's name": {Options{KeepOperators: []string{"Conv"}, KeepNodes: []string{"node_t2"}}, "Cast MatMul Relu Transpose MatMul MatMul MatMul Cast:32", []string{"Conv", "node_t2"}},
	} {
		t.Run(name, func(t *testing.T) {
			converted, report := convert(t, content, test.options)
			if found := strings.Join(precisions(t, converted), " "); found != test.want {
				t.Errorf("expected %s\nfound    %s", test.want, found)
			}
			if !slices.Equal(report.Unmatched, test.unmatched) {
				t.Errorf("unmatched: expected %v, found %v", test.unmatched, report.Unmatched)
			}
		})
	}
}

func TestConvertRefuses(t *testing.T) {
	good := between(17, [][]byte{op("Relu", "first", "last")})
	changed := func(change func(*model)) []byte {
		m := good
		m.nodes, m.tensors = slices.Clone(good.nodes), slices.Clone(good.tensors)
		change(&m)
		return m.bytes()
	}
	deep := model{}
	for range maxGraphDepth + 2 {
		deep = model{nodes: [][]byte{op("Loop", "a", "b", graphAttribute("body", deep))}}
	}
	for name, test := range map[string]struct {
		model []byte
		want  string
	}{
		"nothing":    {nil, "not an ONNX file: it holds no graph"},
		"a text":     {[]byte("hello"), "not an ONNX file: "},
		"cut off":    {good.bytes()[:len(good.bytes())-20], "not an ONNX file: unexpected EOF"},
		"two graphs": {slices.Concat(good.bytes(), good.bytes()), "not an ONNX file: expected one graph, found two"},
		"no opset":   {onnx.AppendMessage(nil, onnx.ModelGraph, good.graph()), "not an ONNX file: it names no version of the operators"},
		"nodes out of order": {changed(func(m *model) { m.nodes[0], m.nodes[1] = m.nodes[1], m.nodes[0] }),
			`node Relu "node_last" reads "first", which nothing before it gives; expected nodes in the order of their use`},
		"a value twice":     {changed(func(m *model) { m.nodes = append(m.nodes, op("Relu", "first", "last")) }), `"last" is given twice; the file is damaged`},
		"a weight twice":    {changed(func(m *model) { m.tensors = append(m.tensors, m.tensors[0]) }), `"w1" is given twice; the file is damaged`},
		"no such output":    {changed(func(m *model) { m.outputs = [][]byte{shaped("z", 1)} }), `output "z": nothing gives it`},
		"a weight cut off":  {changed(func(m *model) { m.tensors[0] = initializer("w1", ramp(15), 4, 4) }), `tensor "w1": expected 64 bytes for 16 float32 values, found 60; the file is damaged`},
		"absurd dimensions": {changed(func(m *model) { m.tensors[0] = initializer("w1", ramp(15), 1<<40, 1<<40) }), `tensor "w1": expected dimensions of a tensor, found [1099511627776 1099511627776]`},
		"negative ones":     {changed(func(m *model) { m.tensors[0] = initializer("w1", ramp(15), -4, -4) }), `tensor "w1": expected dimensions of a tensor, found [-4 -4]`},
		"weights beside it": {changed(func(m *model) { m.tensors[0] = external("w1", 1, "w.bin", "0", "64", 4, 4) }),
			`tensor "w1": its values are in the file "w.bin" beside the graph; convert the file, not its content`},
		"nested without end": {deep.bytes(), "expected graphs nested at most 100 deep, found more"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Convert(test.model, Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("expected an error with %q, found %v", test.want, err)
			}
		})
	}
}

// Every place at which a file may be cut off is refused, or what is left is a
// whole model; neither panics.
func TestEveryTruncation(t *testing.T) {
	content := enginetest.ReadFile(t, enginetest.Path(t, micro+"/unet.onnx"))
	refused := 0
	for length := range content {
		if _, _, err := Convert(content[:length], Options{}); err != nil {
			refused++
		}
	}
	if refused < len(content)-20 { // a trailing field may be missing
		t.Errorf("expected nearly all of %d to be refused, found %d", len(content), refused)
	}
}

// What a converter does not know stays, byte for byte.
func TestUnknownFieldsStay(t *testing.T) {
	m := between(17, [][]byte{onnx.AppendText(op("Relu", "first", "last"), 1000, "of a node")})
	m.tensors[0] = onnx.AppendText(m.tensors[0], 12, "of a tensor") // doc_string
	content := onnx.AppendText(m.bytes(), 2000, "of a model")
	converted, _ := convert(t, content, Options{})
	for _, text := range []string{"of a node", "of a tensor", "of a model"} {
		if strings.Count(string(converted), text) != 1 {
			t.Errorf("%q: expected it once, found it %d times", text, strings.Count(string(converted), text))
		}
	}
	if original := slices.Clone(content); !slices.Equal(original, content) {
		t.Error("the model was changed")
	}
}
