package mixed

import (
	"testing"

	"gladd/engines/enginetest"
)

// Any bytes are converted or refused. What is converted can be converted again,
// and no value of it is without a name.
func FuzzConvert(f *testing.F) {
	for _, graph := range []string{"unet", "vae_encoder", "vae_decoder"} {
		f.Add(enginetest.ReadFile(f, enginetest.Path(f, micro+"/"+graph+".onnx")))
	}
	f.Add(between(21, [][]byte{
		op("ReduceMean", "first axis", "mean"), op("Sub", "first mean", "last"),
	}, initializer("axis", []int64{-1}, 1)).bytes())
	f.Add(between(17, [][]byte{op("Constant", "", "c", number("value_float", 2)), op("Div", "first c", "last")}).bytes())
	f.Add(between(17, [][]byte{op("If", "c", "last", graphAttribute("then_branch", model{nodes: [][]byte{op("Relu", "first", "a")}, outputs: [][]byte{shaped("a", 2)}}))},
		initializer("c", []uint8{1})).bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		converted, _, err := Convert(content, Options{KeepOperators: []string{"Relu"}})
		if err != nil {
			return
		}
		if _, _, err := Convert(converted, Options{}); err != nil {
			t.Errorf("converted again: %v", err)
		}
	})
}
