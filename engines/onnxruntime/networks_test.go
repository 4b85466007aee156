package onnxruntime_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/engines/onnxruntime"
)

func open(t testing.TB, dir string) engines.Networks {
	t.Helper()
	networks, err := enginetest.Backend(t).Open(t.Context(), enginetest.Load(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := networks.Close(); err != nil {
			t.Error(err)
		}
	})
	return networks
}

// Sizes of the micro bundle.
const (
	microImage  = 3 * 96 * 160
	microLatent = 3 * 12 * 20
	microGrid   = 12 * 20
	microMap    = 40 * 40
)

func random(n int, seed uint64) []float32 {
	source := rand.New(rand.NewPCG(seed, 0))
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(source.NormFloat64())
	}
	return values
}

// call runs one call of the micro bundle's networks for the parts first to
// last of a fixed series, and returns its outputs one after the other.
func call(t testing.TB, networks engines.Networks, name string, first, last int) []float32 {
	t.Helper()
	const parts = 4
	n := last - first
	part := func(size int, seed uint64) []float32 { return random(parts*size, seed)[first*size : last*size] }
	output := func(size int) []float32 { return make([]float32, n*size) }
	ctx := t.Context()
	var result []float32
	var err error
	switch name {
	case "Encode":
		mean, std := output(microLatent), output(microLatent)
		err = networks.Encode(ctx, part(microImage, 1), mean, std)
		result = slices.Concat(mean, std)
	case "PredictNoise":
		result = output(microLatent)
		timesteps, classes := []int{1, 400, 700, 999}[first:last], []int{0, 1, 1, 0}[first:last]
		err = networks.PredictNoise(ctx, part(microLatent, 2), timesteps, classes, result)
	case "Compare":
		result = output(microGrid)
		err = networks.Compare(ctx, part(microLatent, 3), part(microLatent, 4), result)
	case "Reconstruct":
		result = output(microImage)
		err = networks.Reconstruct(ctx, part(microLatent, 5), result)
	case "Score":
		result = output(microMap)
		err = networks.Score(ctx, part(microImage, 6), part(microImage, 7), result)
	}
	if err != nil {
		t.Fatalf("%s of parts %d to %d: %v", name, first, last, err)
	}
	return result
}

var calls = []string{"Encode", "PredictNoise", "Compare", "Reconstruct", "Score"}

// A batch gives every part what it gets alone: inputs are not mixed up.
func TestBatchEqualsSingleCalls(t *testing.T) {
	networks := open(t, enginetest.Micro(t))
	for _, name := range calls {
		t.Run(name, func(t *testing.T) {
			batch := call(t, networks, name, 0, 4)
			for part := range 4 {
				single := call(t, networks, name, part, part+1)
				blocks := 1
				if name == "Encode" { // mean and std, one after the other
					blocks = 2
				}
				size := len(single) / blocks
				for block := range blocks {
					for i := range size {
						inBatch := batch[block*4*size+part*size+i]
						if alone := single[block*size+i]; math.Abs(float64(inBatch-alone)) > 1e-5 {
							t.Fatalf("part %d, value %d: alone %v, in a batch %v", part, i, alone, inBatch)
						}
					}
				}
			}
		})
	}
}

// A comparison is the decoder and the gate network, nothing else; its two
// latents are not exchangeable.
func TestCompareTellsTestFromReconstruction(t *testing.T) {
	networks := open(t, enginetest.Micro(t))
	first, second := random(microLatent, 3), random(microLatent, 4)
	oneWay, otherWay, same := make([]float32, microGrid), make([]float32, microGrid), make([]float32, microGrid)
	for _, comparison := range []struct{ test, recon, output []float32 }{
		{first, second, oneWay}, {second, first, otherWay}, {first, first, same},
	} {
		if err := networks.Compare(t.Context(), comparison.test, comparison.recon, comparison.output); err != nil {
			t.Fatal(err)
		}
	}
	differ := false
	for i := range same {
		differ = differ || math.Abs(float64(oneWay[i]-otherWay[i])) > 1e-3
		if math.Abs(float64(same[i])) > 1e-4 {
			t.Fatalf("a latent's distance from itself: want 0, found %v at %d", same[i], i)
		}
	}
	if !differ {
		t.Error("the distance is the same both ways: the inputs are not told apart")
	}
}

func TestCompareChecksWhatItDecodes(t *testing.T) {
	networks := open(t, enginetest.Micro(t))
	broken := random(microLatent, 3)
	broken[5] = float32(math.NaN())
	for name, latents := range map[string][2][]float32{
		"test":           {broken, random(microLatent, 4)},
		"reconstruction": {random(microLatent, 4), broken},
	} {
		err := networks.Compare(t.Context(), latents[0], latents[1], make([]float32, microGrid))
		var notFinite *engines.NotFiniteError
		if !errors.As(err, &notFinite) || notFinite.Tensor != "image" || !strings.Contains(err.Error(), "vae_decoder.onnx") {
			t.Errorf("%s: want a NotFiniteError of the decoder's image, found %v", name, err)
		}
	}
}

func TestCallsAreSafeForConcurrentUse(t *testing.T) {
	networks := open(t, enginetest.Micro(t))
	want := map[string][]float32{}
	for _, name := range calls {
		want[name] = call(t, networks, name, 0, 2)
	}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			name := calls[worker%len(calls)]
			for range 5 {
				for i, found := range call(t, networks, name, 0, 2) {
					if found != want[name][i] {
						t.Errorf("%s: value %d: want %v, found %v", name, i, want[name][i], found)
						return
					}
				}
			}
		})
	}
	group.Wait()
}

// Calls spin while they run: one that uses all processors waits for the one
// before, whichever model it belongs to, but not longer than its caller does.
func TestCallsTakeTurns(t *testing.T) {
	backend := enginetest.Backend(t)
	networks, err := backend.Open(t.Context(), enginetest.Load(t, enginetest.Micro(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer networks.Close() //nolint:errcheck // the test is about calls
	reconstruct := func(ctx context.Context) error {
		return networks.Reconstruct(ctx, make([]float32, microLatent), make([]float32, microImage))
	}
	if !backend.TryTurn() { // another model's call
		t.Fatal("expected the processors to be free")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- reconstruct(ctx) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("while another call ran: expected %v, found %v", context.Canceled, err)
	}
	backend.EndTurn()
	if err := reconstruct(t.Context()); err != nil {
		t.Errorf("after the other call: %v", err)
	}
}

func TestCallsOfFewThreadsRunSideBySide(t *testing.T) {
	all := runtime.GOMAXPROCS(0)
	for threads, want := range map[int]int{0: 1, 1: all, all: 1, 2 * all: 1} {
		backend, err := onnxruntime.New(onnxruntime.Options{Library: enginetest.Library(t), Threads: threads})
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for backend.TryTurn() {
			found++
		}
		for range found {
			backend.EndTurn()
		}
		if found != want {
			t.Errorf("%d threads on %d processors: expected %d calls at once, found %d", threads, all, want, found)
		}
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	networks := open(t, enginetest.Micro(t))
	ctx := context.Background()
	image, latent := random(microImage, 1), random(microLatent, 2)
	mean, std, eps, grid, reconstruction, anomalyMap := make([]float32, microLatent), make([]float32, microLatent), make([]float32, microLatent),
		make([]float32, microGrid), make([]float32, microImage), make([]float32, microMap)
	timesteps, classes := []int{500}, []int{1}
	allocations := testing.AllocsPerRun(20, func() {
		err := errors.Join(
			networks.Encode(ctx, image, mean, std),
			networks.PredictNoise(ctx, latent, timesteps, classes, eps),
			networks.Compare(ctx, latent, eps, grid),
			networks.Reconstruct(ctx, latent, reconstruction),
			networks.Score(ctx, image, reconstruction, anomalyMap),
		)
		if err != nil {
			t.Fatal(err)
		}
	})
	// The closures and slices of slices of five calls; no tensors.
	if allocations > 25 {
		t.Errorf("want a handful of small allocations for five calls, found %v", allocations)
	}
}

func TestCallsRefuseWhatDoesNotFit(t *testing.T) {
	networks := open(t, enginetest.Micro(t))
	latent, grid, image := random(microLatent, 1), make([]float32, microGrid), random(microImage, 1)
	ctx := t.Context()
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"no batch":            {networks.Reconstruct(ctx, nil, nil), "expected a batch of at least 1, found 0"},
		"part of a sample":    {networks.Reconstruct(ctx, latent[:microLatent-1], image), "expected a batch of at least 1"},
		"a sample and a half": {networks.Reconstruct(ctx, random(microLatent*3/2, 1), image), `input "latent": expected 720 values, found 1080`},
		"no room":             {networks.Reconstruct(ctx, latent, image[:10]), `output "image": expected room for 46080 values, found 10`},
		"one latent short":    {networks.Compare(ctx, latent, latent[:10], grid), `input "latent": expected twice 720 values, found 720 and 10`},
		"no class":            {networks.PredictNoise(ctx, latent, []int{1}, nil, latent), `input "class_index": expected 1 values, found 0`},
		"two timesteps":       {networks.PredictNoise(ctx, latent, []int{1, 2}, []int{0, 0}, latent), `input "sample": expected 1440 values, found 720`},
		"no std":              {networks.Encode(ctx, image, latent, nil), `output "latent_std": expected room for 720 values, found 0`},
	} {
		t.Run(name, func(t *testing.T) {
			if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
				t.Errorf("want an error with %q, found %v", test.want, test.err)
			}
		})
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := networks.Reconstruct(canceled, latent, image); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: found %v", err)
	}
}

func TestCloseTwiceAndCallsAfterwards(t *testing.T) {
	backend := enginetest.Backend(t)
	networks, err := backend.Open(t.Context(), enginetest.Load(t, enginetest.Micro(t)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := networks.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := networks.Reconstruct(t.Context(), random(microLatent, 1), make([]float32, microImage)); err == nil || err.Error() != "the networks are closed" {
		t.Errorf("found %v", err)
	}
	for range 2 {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRuntime(t *testing.T) {
	found := open(t, enginetest.Micro(t)).Runtime()
	if found.Backend != "onnxruntime" || found.Precision != "fp32" || !strings.Contains(found.Library, onnxruntime.Version) {
		t.Errorf("found %+v", found)
	}
}

// Each stand-in breaks the contract in one way, with a digest that is right.
func TestOpenRefusesGraphs(t *testing.T) {
	for file, test := range map[string]struct {
		graph engines.GraphName
		want  string
	}{
		"output_misnamed.onnx":       {engines.VAEDecoder, `output "image": missing; expected image, found picture`},
		"input_misnamed.onnx":        {engines.VAEDecoder, `input "latent": missing; expected latent, found z`},
		"input_extra.onnx":           {engines.VAEDecoder, `input "guidance": not in the contract of vae_decoder, which has latent; nothing could be fed to it`},
		"output_shape.onnx":          {engines.VAEDecoder, `output "image": expected shape [N,3,96,160] with a dynamic batch N, found [N,3,160,96]`},
		"runs_to_another_shape.onnx": {engines.VAEDecoder, `output "image": expected shape [1,3,96,160] for a batch of 1, found [1,3,90,160]`},
		"batch_fixed.onnx":           {engines.VAEDecoder, `input "latent": expected shape [N,3,12,20] with a dynamic batch N, found [1,3,12,20]`},
		"batch_folded.onnx":          {engines.VAEDecoder, `output "image": expected shape [3,3,96,160] for a batch of 3, found [1,3,96,160]`},
		"output_double.onnx":         {engines.VAEDecoder, `output "image": expected element type float, found double`},
		"fails_at_run.onnx":          {engines.VAEDecoder, "dry run with a batch of 1"},
		"unet_nan.onnx":              {engines.VAEDecoder, `input "latent": missing; expected latent, found sample, timestep, class_index`},
	} {
		t.Run(file, func(t *testing.T) {
			dir := enginetest.Copy(t, enginetest.Micro(t))
			enginetest.ReplaceGraph(t, dir, test.graph, enginetest.ReadFile(t, enginetest.Path(t, filepath.Join("engines/testdata/graphs", file))))
			networks, err := enginetest.Backend(t).Open(t.Context(), enginetest.Load(t, dir))
			if networks != nil && err != nil {
				t.Error("there are networks beside the error")
			}
			path := filepath.Join(dir, string(test.graph)+".onnx")
			if err == nil || !strings.HasPrefix(err.Error(), path+": ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want an error with %s and %q, found %v", path, test.want, err)
			}
		})
	}
}

// The gate and the score have the same inputs; the output tells them apart.
func TestGraphsExchanged(t *testing.T) {
	dir := enginetest.Copy(t, enginetest.Micro(t))
	enginetest.ReplaceGraph(t, dir, engines.DINOGate, enginetest.ReadFile(t, filepath.Join(dir, "dino_score.onnx")))
	_, err := enginetest.Backend(t).Open(t.Context(), enginetest.Load(t, dir))
	if want := `dino_gate.onnx: output "anomaly_map": expected shape [N,1,12,20] with a dynamic batch N, found [N,1,40,40]`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("want %q, found %v", want, err)
	}
}

func TestManifestAgainstGraphs(t *testing.T) {
	for name, test := range map[string]struct{ old, replacement, want string }{
		"no classes, but the graph wants one": {`"classes": [
    "left",
    "right"
  ]`, `"classes": []`, `unet.onnx: input "class_index": not in the contract of unet`},
		"another map size":   {`"map_size": 40`, `"map_size": 41`, `dino_score.onnx: output "anomaly_map": expected shape [N,1,41,41]`},
		"another image size": {`"width": 160`, `"width": 168`, `vae_encoder.onnx: input "image": expected shape [N,3,96,168]`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := enginetest.Copy(t, enginetest.Micro(t))
			enginetest.Edit(t, dir, test.old, test.replacement)
			_, err := enginetest.Backend(t).Open(t.Context(), enginetest.Load(t, dir))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want %q, found %v", test.want, err)
			}
		})
	}
}

func TestExternalWeights(t *testing.T) {
	dir := enginetest.Copy(t, enginetest.Micro(t))
	weights := enginetest.ReadFile(t, enginetest.Path(t, "engines/testdata/graphs/external.weights"))
	enginetest.ReplaceGraph(t, dir, engines.VAEDecoder, enginetest.ReadFile(t, enginetest.Path(t, "engines/testdata/graphs/external.onnx")))
	enginetest.WriteFile(t, filepath.Join(dir, "external.weights"), weights)
	enginetest.Edit(t, dir, `"file": "vae_decoder.onnx",`,
		`"file": "vae_decoder.onnx", "external_data": [{"file": "external.weights", "sha256": "`+enginetest.Digest(weights)+`"}],`)
	image := make([]float32, microImage)
	if err := open(t, dir).Reconstruct(t.Context(), random(microLatent, 1), image); err != nil {
		t.Fatal(err)
	}
}

func TestCorruptGraphOfTheRightDigest(t *testing.T) {
	dir := enginetest.Copy(t, enginetest.Micro(t))
	onnx := enginetest.ReadFile(t, filepath.Join(dir, "unet.onnx"))
	// An operator that does not exist: valid as a message, not as a model.
	enginetest.ReplaceGraph(t, dir, engines.UNet, []byte(strings.Replace(string(onnx), "Tanh", "Tank", 1)))
	_, err := enginetest.Backend(t).Open(t.Context(), enginetest.Load(t, dir))
	if err == nil || !strings.Contains(err.Error(), "unet.onnx: ONNX Runtime cannot load the graph: ") || !strings.Contains(err.Error(), "Tank") {
		t.Errorf("found %v", err)
	}
}

// reverseInputs returns an ONNX file whose graph lists its inputs in reverse.
func reverseInputs(t *testing.T, onnx []byte) []byte {
	t.Helper()
	const modelGraph, graphInput = 7, 11 // field numbers of onnx.proto3
	rewrite := func(message []byte, rewriteFields func(fields [][]byte, numbers []protowire.Number)) []byte {
		var fields [][]byte
		var numbers []protowire.Number
		for rest := message; len(rest) > 0; {
			number, _, length := protowire.ConsumeField(rest)
			if length < 0 {
				t.Fatal(protowire.ParseError(length))
			}
			fields, numbers = append(fields, rest[:length]), append(numbers, number)
			rest = rest[length:]
		}
		rewriteFields(fields, numbers)
		return slices.Concat(fields...)
	}
	return rewrite(onnx, func(fields [][]byte, numbers []protowire.Number) {
		model := slices.Index(numbers, modelGraph)
		_, _, tag := protowire.ConsumeTag(fields[model])
		graph, _ := protowire.ConsumeBytes(fields[model][tag:])
		graph = rewrite(graph, func(fields [][]byte, numbers []protowire.Number) {
			first := slices.Index(numbers, graphInput)
			second := first + 1 + slices.Index(numbers[first+1:], graphInput)
			fields[first], fields[second] = fields[second], fields[first]
		})
		fields[model] = protowire.AppendBytes(protowire.AppendTag(nil, modelGraph, protowire.BytesType), graph)
	})
}

// Tensors are bound by name: a graph that lists its two pictures the other way
// round compares the same way round.
func TestSwappedInputs(t *testing.T) {
	dir := enginetest.Copy(t, enginetest.Micro(t))
	path := filepath.Join(dir, "dino_gate.onnx")
	swapped := reverseInputs(t, enginetest.ReadFile(t, path))
	if slices.Equal(swapped, enginetest.ReadFile(t, path)) {
		t.Fatal("nothing was swapped")
	}
	enginetest.ReplaceGraph(t, dir, engines.DINOGate, swapped)
	test, recon := random(microLatent, 3), random(microLatent, 4)
	usual, found, otherWay := make([]float32, microGrid), make([]float32, microGrid), make([]float32, microGrid)
	if err := errors.Join(
		open(t, enginetest.Micro(t)).Compare(t.Context(), test, recon, usual),
		open(t, enginetest.Micro(t)).Compare(t.Context(), recon, test, otherWay),
		open(t, dir).Compare(t.Context(), test, recon, found),
	); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found, usual) || slices.Equal(found, otherWay) {
		t.Errorf("want the map of the usual order, found another")
	}
}

// A file that was exchanged after the bundle was loaded is not run.
func TestOpenRefusesAGraphExchangedSince(t *testing.T) {
	dir := enginetest.Copy(t, enginetest.Micro(t))
	bundle := enginetest.Load(t, dir)
	other := enginetest.ReadFile(t, enginetest.Path(t, "engines/testdata/graphs/unet_nan.onnx"))
	enginetest.WriteFile(t, filepath.Join(dir, "unet.onnx"), other)
	if _, err := enginetest.Backend(t).Open(t.Context(), bundle); err == nil || !strings.Contains(err.Error(), "unet.onnx: wrong content") {
		t.Errorf("want the exchanged graph refused, found %v", err)
	}
}

func TestOpenCanBeCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := enginetest.Backend(t).Open(ctx, enginetest.Load(t, enginetest.Micro(t))); !errors.Is(err, context.Canceled) {
		t.Errorf("found %v", err)
	}
}
