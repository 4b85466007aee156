package mixed

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"gladd/engines/enginetest"
	"gladd/internal/onnx"
)

// The output is there in every version of the operators, also in the FP16 form, and
// shows every value that is not finite.
func TestWithMeanSquare(t *testing.T) {
	enginetest.Backend(t) // ONNX Runtime's environment
	for _, opset := range []int64{13, 17, 18, 21} {
		t.Run(fmt.Sprint("opset ", opset), func(t *testing.T) {
			plain := model{opset: opset, nodes: [][]byte{op("Neg", "x", "y")}, inputs: [][]byte{shaped("x", 2, 3, 2, 2)}, outputs: [][]byte{shaped("y", 2, 3, 2, 2)}}
			added, err := WithMeanSquare(plain.bytes(), "y", "energy")
			if err != nil {
				t.Fatal(err)
			}
			half, _ := convert(t, added, Options{})
			for value, finite := range map[float32]bool{3: true, float32(math.Inf(-1)): false, float32(math.NaN()): false} {
				x := slices.Repeat([]float32{2}, 24)
				x[17] = value // of the second sample
				for _, graph := range [][]byte{added, half} {
					energy := run(t, graph, map[string]array{"x": {shape: []int64{2, 3, 2, 2}, floats: x}})["energy"].floats
					if len(energy) != 2 || energy[0] != 4 {
						t.Fatalf("expected two values, the first of them 4, found %v", energy)
					}
					second := float64(energy[1])
					if finite && math.Abs(second-(11*4+9)/12.0) > 1e-5 || !finite && !math.IsNaN(second) && !math.IsInf(second, 0) {
						t.Errorf("a value of %v: found %v", value, second)
					}
				}
			}
		})
	}
	for name, bytes := range map[string][]byte{"no graph": onnx.AppendMessage(nil, onnx.ModelOpset, onnx.AppendInteger(nil, 2, 17)), "no opset": onnx.AppendMessage(nil, onnx.ModelGraph, nil), "cut off": {0x3a, 9}} {
		if _, err := WithMeanSquare(bytes, "y", "energy"); err == nil || !strings.HasPrefix(err.Error(), "ONNX file: ") {
			t.Errorf("%s: found %v", name, err)
		}
	}
}
