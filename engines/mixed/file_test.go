package mixed

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ort "github.com/yalue/onnxruntime_go"

	"gladd/engines/enginetest"
	"gladd/internal/onnx"
)

// external makes a TensorProto whose values are in a file beside the graph.
func external(name string, kind elementType, file, offset, length string, dims ...int64) []byte {
	var message []byte
	for _, dim := range dims {
		message = onnx.AppendInteger(message, onnx.TensorDims, dim)
	}
	message = onnx.AppendInteger(message, onnx.TensorType, int64(kind))
	message = onnx.AppendText(message, onnx.TensorName, name)
	for _, entry := range [][2]string{{"location", file}, {"offset", offset}, {"length", length}} {
		if entry[1] != "" {
			message = onnx.AppendMessage(message, onnx.TensorExternal, onnx.AppendText(onnx.AppendText(nil, onnx.EntryKey, entry[0]), onnx.EntryValue, entry[1]))
		}
	}
	return onnx.AppendInteger(message, onnx.TensorLocation, 1)
}

// weightsBeside is a graph with an FP32 weight, an FP16 weight, one for both
// precisions and indices, all in files beside it.
func weightsBeside(t *testing.T, dir string) string {
	t.Helper()
	m := between(17, [][]byte{
		op("Cast", "stored", "wide", integer("to", 1)), op("MatMul", "first wide", "m"), op("Softmax", "shared", "s"), op("MatMul", "m s", "n"), op("MatMul", "n shared", "o"), op("Gather", "o rows", "last"),
	})
	m.tensors = [][]byte{
		external("w1", float32s, "one.bin", "16", "64", 4, 4),
		initializer("w2", ramp(16), 4, 4),
		external("stored", float16s, "two.bin", "", "", 4, 4),
		external("shared", float32s, "one.bin", "80", "", 4, 4),
		external("rows", int64s, "two.bin", "32", "16", 2),
	}
	write := func(name string, values ...any) {
		var content []byte
		for _, value := range values {
			var err error
			if content, err = binary.Append(content, binary.LittleEndian, value); err != nil {
				t.Fatal(err)
			}
		}
		enginetest.WriteFile(t, filepath.Join(dir, name), content)
	}
	write("one.bin", make([]byte, 16), ramp(16), ramp(16))
	write("two.bin", halves(ramp(16)), []int64{0, 1})
	path := filepath.Join(dir, "graph.onnx")
	enginetest.WriteFile(t, path, m.bytes())
	return path
}

// runFile runs a graph whose weights are beside it.
func runFile(t *testing.T, path string) []float32 {
	t.Helper()
	input, err := ort.NewTensor(ort.NewShape(2, 4), ramp(8))
	if err != nil {
		t.Fatal(err)
	}
	defer input.Destroy() //nolint:errcheck // memory of a test
	session, err := ort.NewDynamicAdvancedSession(path, []string{"x"}, []string{"y"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Destroy() //nolint:errcheck // memory of a test
	outputs := []ort.Value{nil}
	if err := session.Run([]ort.Value{input}, outputs); err != nil {
		t.Fatal(err)
	}
	defer outputs[0].Destroy() //nolint:errcheck // memory of a test
	return slices.Clone(outputs[0].(*ort.Tensor[float32]).GetData())
}

func TestConvertFile(t *testing.T) {
	enginetest.Backend(t)
	from := weightsBeside(t, t.TempDir())
	dir := t.TempDir()
	to := filepath.Join(dir, "mixed.onnx")
	enginetest.WriteFile(t, to, []byte("an old one"))
	report, err := ConvertFile(from, to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if report.WeightsFile != "mixed.onnx.weights" || report.Weights != 3 {
		t.Errorf("expected 3 weights and mixed.onnx.weights, found %+v", report)
	}
	want, found := map[string]array{"y": {floats: runFile(t, from)}}, map[string]array{"y": {floats: runFile(t, to)}}
	if off := difference(t, want, found); off > 0.008 {
		t.Errorf("expected the same output within 0.008, found it off by %v", off)
	}
	// w1 and both forms of shared, stored and rows as they were, each at a
	// multiple of 64.
	info, err := os.Stat(filepath.Join(dir, report.WeightsFile))
	if err != nil || info.Size() != 4*64+16 {
		t.Errorf("expected %d bytes of weights, found %v, %v", 4*64+16, info, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("expected two files and nothing else, found %v, %v", entries, err)
	}
	first := []string{digestOf(t, to), digestOf(t, to+".weights")}
	if _, err := ConvertFile(from, to, Options{}); err != nil {
		t.Fatal(err)
	}
	if second := []string{digestOf(t, to), digestOf(t, to+".weights")}; !slices.Equal(first, second) {
		t.Error("converted again: the files differ")
	}
}

func digestOf(t *testing.T, path string) string {
	return enginetest.Digest(enginetest.ReadFile(t, path))
}

// A graph that holds its weights is converted as Convert does it.
func TestConvertFileWithoutOthers(t *testing.T) {
	from := enginetest.Path(t, micro+"/dino_score.onnx")
	to := filepath.Join(t.TempDir(), "mixed.onnx")
	report, err := ConvertFile(from, to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := convert(t, enginetest.ReadFile(t, from), Options{})
	if !slices.Equal(want, enginetest.ReadFile(t, to)) || report.WeightsFile != "" {
		t.Errorf("expected the bytes of Convert and no file of weights, found others, %q", report.WeightsFile)
	}
}

// A large tensor goes through in small parts: FP16 and FP32 values at the borders
// of the parts are right.
func TestLargeTensor(t *testing.T) {
	const count = chunk/4*2 + 3
	dir := t.TempDir()
	values := ramp(count)
	m := model{inputs: [][]byte{shaped("x", 1, 1)}, outputs: [][]byte{shaped("y", 1, count)}, nodes: [][]byte{op("MatMul", "x w", "y")}}
	m.tensors = [][]byte{external("w", float32s, "w.bin", "0", fmt.Sprint(4*count), 1, count)}
	content, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		t.Fatal(err)
	}
	enginetest.WriteFile(t, filepath.Join(dir, "w.bin"), content)
	enginetest.WriteFile(t, filepath.Join(dir, "graph.onnx"), m.bytes())
	to := filepath.Join(dir, "mixed.onnx")
	if _, err := ConvertFile(filepath.Join(dir, "graph.onnx"), to, Options{}); err != nil {
		t.Fatal(err)
	}
	found := make([]uint16, count)
	if _, err := binary.Decode(enginetest.ReadFile(t, to+".weights"), binary.LittleEndian, found); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found, halves(values)) {
		t.Error("the weights were not converted value by value")
	}
}

func TestConvertFileRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, dir string)
		to     string
		want   string
	}{
		"no graph":    {func(t *testing.T, dir string) { remove(t, dir, "graph.onnx") }, "", "no such file or directory"},
		"onto itself": {nil, "graph.onnx", "expected another file to write to, found the same"},
		"onto its weights": {func(t *testing.T, dir string) {
			m := between(17, [][]byte{op("Relu", "first", "last")})
			m.tensors[0] = external("w1", float32s, "mixed.onnx.weights", "16", "64", 4, 4)
			enginetest.WriteFile(t, filepath.Join(dir, "graph.onnx"), m.bytes())
			enginetest.WriteFile(t, filepath.Join(dir, "mixed.onnx.weights"), enginetest.ReadFile(t, filepath.Join(dir, "one.bin")))
		}, "mixed.onnx", "which would be written over; expected another name for the new graph"},
		"a folder":        {func(t *testing.T, dir string) { remove(t, dir, "graph.onnx"); mkdir(t, dir, "graph.onnx") }, "", "expected a file, found one of mode d"},
		"no weights":      {func(t *testing.T, dir string) { remove(t, dir, "two.bin") }, "", `tensor "stored": open `},
		"weights cut off": {func(t *testing.T, dir string) { truncate(t, dir, "one.bin", 100) }, "", `tensor "shared": expected 64 bytes at 80 in `},
		"not ONNX":        {func(t *testing.T, dir string) { truncate(t, dir, "graph.onnx", 100) }, "", "not an ONNX file: unexpected EOF"},
		"no such folder":  {nil, "missing/mixed.onnx", "no such file or directory"},
		"weights elsewhere": {func(t *testing.T, dir string) {
			m := between(17, [][]byte{op("Relu", "first", "last")})
			m.tensors[0] = external("w1", float32s, "../one.bin", "0", "64", 4, 4)
			enginetest.WriteFile(t, filepath.Join(dir, "graph.onnx"), m.bytes())
		}, "", `tensor "w1": expected weights in a file beside the graph, found "../one.bin"`},
		"a wrong length": {func(t *testing.T, dir string) {
			m := between(17, [][]byte{op("Relu", "first", "last")})
			m.tensors[0] = external("w1", float32s, "one.bin", "0", "32", 4, 4)
			enginetest.WriteFile(t, filepath.Join(dir, "graph.onnx"), m.bytes())
		}, "", `tensor "w1": expected external_data of length 64 for 16 values of 4 bytes, found 32`},
		"an offset that is none": {func(t *testing.T, dir string) {
			m := between(17, [][]byte{op("Relu", "first", "last")})
			m.tensors[0] = external("w1", float32s, "one.bin", "-4", "64", 4, 4)
			enginetest.WriteFile(t, filepath.Join(dir, "graph.onnx"), m.bytes())
		}, "", `tensor "w1": external_data offset: expected a number of bytes, found "-4"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from := weightsBeside(t, dir)
			if test.change != nil {
				test.change(t, dir)
			}
			to := filepath.Join(t.TempDir(), "mixed.onnx")
			if test.to != "" {
				to = filepath.Join(dir, test.to)
			}
			before := names(t, filepath.Dir(to))
			_, err := ConvertFile(from, to, Options{})
			if err == nil || !strings.HasPrefix(err.Error(), from+": converting to FP16: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("expected an error with %s and %q, found %v", from, test.want, err)
			}
			if after := names(t, filepath.Dir(to)); !slices.Equal(before, after) {
				t.Errorf("expected no file to be left behind, found %v, before %v", after, before)
			}
		})
	}
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, _ := os.ReadDir(dir) // a folder that is missing has no files
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, dir, name string, size int64) {
	t.Helper()
	if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
		t.Fatal(err)
	}
}
