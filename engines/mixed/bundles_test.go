package mixed

import (
	"bytes"
	"image/png"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"gladd/capture/virtualline"
	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/internal/npy"
)

const (
	tinyA    = "testdata/golden/tiny-a"
	micro    = "testdata/micro"
	exported = "testdata/exported/bundle"
	demo     = "bundles/demo"
)

// tolerances are the largest differences from the FP32 graph, by the output's
// largest value, about twice what was measured over both kinds of input. kept are the
// products of matrices that stay in FP32: the cosine of each distance, and the
// blur of a map in two directions.
//
// The UNet of tiny-a takes a guided difference of two predictions nine times. The
// networks of the exported bundle learned nothing: all distances that its gate
// gives are below 0.002.
var tolerances = []struct {
	bundle    string
	graph     engines.GraphName
	tolerance float64
	kept      int
}{
	{tinyA, engines.VAEEncoder, 0.002, 0},
	{tinyA, engines.UNet, 0.016, 0},
	{tinyA, engines.VAEDecoder, 0.0025, 0},
	{tinyA, engines.DINOGate, 0.003, 1},
	{tinyA, engines.DINOScore, 0.0005, 6},
	{micro, engines.VAEEncoder, 0.0015, 0},
	{micro, engines.UNet, 0.001, 0},
	{micro, engines.VAEDecoder, 0.002, 0},
	{micro, engines.DINOGate, 0.0015, 1},
	{micro, engines.DINOScore, 0.0015, 2},
	{exported, engines.VAEEncoder, 0.002, 0},
	{exported, engines.UNet, 0.00002, 0},
	{exported, engines.VAEDecoder, 0.0015, 0},
	{exported, engines.DINOGate, 0.15, 1},
	{exported, engines.DINOScore, 0.0008, 6},
	{demo, engines.VAEEncoder, 0.0012, 0},
	{demo, engines.UNet, 0.002, 0},
	{demo, engines.VAEDecoder, 0.0025, 0},
	{demo, engines.DINOGate, 0.005, 1},
	{demo, engines.DINOScore, 0.002, 6},
}

// A converted graph computes what the FP32 graph does, with every FP16 value
// rounded, and leaves no product of matrices in FP32 but those of distances.
func TestBundles(t *testing.T) {
	enginetest.Backend(t)
	for _, test := range tolerances {
		t.Run(test.bundle+"/"+string(test.graph), func(t *testing.T) {
			bundle := enginetest.Load(t, enginetest.Path(t, test.bundle))
			model := readGraphOf(t, bundle, test.graph)
			converted, report := convert(t, model, Options{})
			if len(report.Unknown)+len(report.Unfit)+len(report.Unmatched) > 0 || report.NotFinite > 0 {
				t.Errorf("expected nothing out of the ordinary, found %+v", report)
			}
			checkWork(t, report, test.kept)
			rounded := rounding(t, converted)
			for name, inputs := range map[string]map[string]array{
				"random": randomFeed(bundle.Manifest, test.graph),
				"real":   realFeed(t, bundle, test.graph),
			} {
				want := run(t, model, inputs)
				plain, found := difference(t, want, run(t, converted, inputs)), difference(t, want, run(t, rounded, inputs))
				t.Logf("%s inputs: off by %.2g, without rounding between nodes by %.2g", name, found, plain)
				if max(plain, found) > test.tolerance {
					t.Errorf("%s inputs: expected at most %.2g of the output's size, found %.2g, without rounding between nodes %.2g", name, test.tolerance, found, plain)
				}
			}
		})
	}
}

// checkWork checks how many products of matrices compute in FP16.
func checkWork(t *testing.T, report Report, kept int) {
	t.Helper()
	half := 0
	for _, name := range []string{"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"} {
		half += report.Operators[name].Half
	}
	if half == 0 || len(report.Kept) != kept {
		t.Errorf("products of matrices: expected all but %d in FP16, found %d in FP16 and in FP32 %v", kept, half, report.Kept)
	}
	for _, node := range report.Kept {
		if node.Reason != reasonAfter {
			t.Errorf("%s %q: expected it to stay in FP32 because it %s, found: %s", node.Operator, node.Node, reasonAfter, node.Reason)
		}
	}
}

// The networks proper run in FP16 to 95 % and more: in each graph, without the
// distances that follow the network, and in the demo's bundle as a whole with
// them.
func TestShareOfFP16(t *testing.T) {
	half, all := 0, 0
	for _, graph := range engines.GraphNames {
		bundle := enginetest.Load(t, enginetest.Path(t, demo))
		_, report := convert(t, readGraphOf(t, bundle, graph), Options{})
		for _, name := range []string{"Conv", "Gemm", "MatMul"} {
			half += report.Operators[name].Half
			all += report.Operators[name].Half + report.Operators[name].Full
		}
	}
	if share := float64(half) / float64(all); share < 0.95 || all < 200 {
		t.Errorf("expected 95 %% of more than 200 products of matrices in FP16, found %d of %d", half, all)
	}
}

func readGraphOf(t testing.TB, bundle *engines.Bundle, graph engines.GraphName) []byte {
	t.Helper()
	return enginetest.ReadFile(t, bundle.Graph(graph).Path)
}

// batch of the graphs' inputs.
const batch = 2

func shapeOf(dims ...int) (shape []int64, size int) {
	shape, size = []int64{batch}, batch
	for _, dim := range dims {
		shape, size = append(shape, int64(dim)), size*dim
	}
	return shape, size
}

func drawn(draw func() float64, dims ...int) array {
	shape, size := shapeOf(dims...)
	values := make([]float32, size)
	for i := range values {
		values[i] = float32(draw())
	}
	return array{shape: shape, floats: values}
}

// numbers are a UNet's other inputs.
func numbers(sample array) map[string]array {
	return map[string]array{
		"sample":      sample,
		"timestep":    {shape: []int64{batch}, floats: []float32{421, 61}},
		"class_index": {shape: []int64{batch}, ints: []int64{1, 0}},
	}
}

// randomFeed draws pixels in [-1,1] and latents of standard deviation 1.
func randomFeed(m engines.Manifest, graph engines.GraphName) map[string]array {
	source := rand.New(rand.NewPCG(1, 0))
	image := func() array {
		return drawn(func() float64 { return 2*source.Float64() - 1 }, 3, m.Image.Height, m.Image.Width)
	}
	latent := func() array { return drawn(source.NormFloat64, m.Latent.Channels, m.Latent.Height, m.Latent.Width) }
	switch graph {
	case engines.VAEEncoder:
		return map[string]array{"image": image()}
	case engines.VAEDecoder:
		return map[string]array{"latent": latent()}
	case engines.UNet:
		return numbers(latent())
	}
	return map[string]array{"test_image": image(), "reconstructed_image": image()}
}

// realFeed takes the bundle's own pictures; for the demo, plates with a defect
// and the same ones without it. Latents are what the encoder makes of them, with
// the noise of the middle of a trajectory where the UNet sees them.
func realFeed(t testing.TB, bundle *engines.Bundle, graph engines.GraphName) map[string]array {
	t.Helper()
	m := bundle.Manifest
	tests, others := pictures(t, bundle)
	if graph == engines.DINOGate || graph == engines.DINOScore {
		return map[string]array{"test_image": tests, "reconstructed_image": others}
	}
	image := map[string]array{"image": tests}
	if graph == engines.VAEEncoder {
		return image
	}
	latent := run(t, readGraphOf(t, bundle, engines.VAEEncoder), image)["latent_mean"]
	if graph == engines.VAEDecoder {
		return map[string]array{"latent": latent}
	}
	source := rand.New(rand.NewPCG(2, 0))
	sample := drawn(source.NormFloat64, m.Latent.Channels, m.Latent.Height, m.Latent.Width)
	for i, value := range latent.floats {
		sample.floats[i] = 0.8*value + 0.6*sample.floats[i]
	}
	return numbers(sample)
}

// pictures returns two pictures in [-1,1], and two to compare them with.
func pictures(t testing.TB, bundle *engines.Bundle) (tests, others array) {
	t.Helper()
	m := bundle.Manifest
	shape, size := shapeOf(3, m.Image.Height, m.Image.Width)
	tests, others = array{shape: shape}, array{shape: shape}
	switch {
	case strings.HasSuffix(bundle.Dir, demo):
		line, err := virtualline.New(virtualline.Plate, 5, m.Image.Width)
		if err != nil {
			t.Fatal(err)
		}
		for i := range batch {
			tests.floats = append(tests.floats, planes(line.Defective("mixed", i, virtualline.Scratch, virtualline.Plain).RGB)...)
			others.floats = append(others.floats, planes(line.Good("mixed", i).RGB)...)
		}
	case strings.HasSuffix(bundle.Dir, tinyA):
		for _, name := range []string{"scratch_red", "good_1"} {
			tests.floats = append(tests.floats, readPicture(t, filepath.Join(bundle.Dir, "images", name+".png"))...)
			values, err := npy.Decode(enginetest.ReadFile(t, filepath.Join(bundle.Dir, "golden", name+".reconstruction.npy")), 3, m.Image.Height, m.Image.Width)
			if err != nil {
				t.Fatal(err)
			}
			others.floats = append(others.floats, values...)
		}
	default:
		images, err := filepath.Glob(filepath.Join(bundle.Dir, "images", "*.png"))
		if err != nil {
			t.Fatal(err)
		}
		if len(images) == 0 {
			images, _ = filepath.Glob(filepath.Join(filepath.Dir(bundle.Dir), "images", "*.png"))
		}
		if len(images) < 2 {
			t.Fatalf("%s: expected two pictures or more, found %v", bundle.Dir, images)
		}
		one, another := readPicture(t, images[0]), readPicture(t, images[1])
		tests.floats = append(append(tests.floats, one...), another...)
		others.floats = append(append(others.floats, another...), one...)
	}
	if len(tests.floats) != size || len(others.floats) != size {
		t.Fatalf("%s: expected pictures of %v, found others", bundle.Dir, shape)
	}
	return tests, others
}

func readPicture(t testing.TB, path string) []float32 {
	t.Helper()
	return planes(rgb(t, path))
}

// rgb reads a picture of 8 bits a colour.
func rgb(t testing.TB, path string) (levels []byte) {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(enginetest.ReadFile(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	bounds := picture.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			r, g, b, _ := picture.At(x, y).RGBA()
			levels = append(levels, byte(r>>8), byte(g>>8), byte(b>>8))
		}
	}
	return levels
}

// planes are a picture's colours one after the other, in [-1,1].
func planes(rgb []byte) []float32 {
	size := len(rgb) / 3
	values := make([]float32, len(rgb))
	for i, level := range rgb {
		values[i%3*size+i/3] = float32(level)/127.5 - 1
	}
	return values
}
