//go:build tensorrt

package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/trt"
	"gladd/trt/cuda"
	"gladd/trt/cuda/cudatest"
	"gladd/trt/trttest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	trttest.Cleanup()
	os.Exit(code)
}

// box is a machine with a GPU and TensorRT: both are fakes whose engines compute
// what ONNX Runtime computes.
type box struct {
	cuda    *cudatest.Fake
	options Options
	log     *strings.Builder
}

func newBox(t *testing.T, version trttest.Fake) *box {
	t.Helper()
	made := &box{cuda: cudatest.Library(t), log: &strings.Builder{}}
	made.cuda.Set("memory_bytes", 1<<30)
	made.cuda.Set("pinned_bytes", 1<<30)
	made.options = Options{
		Library: trttest.Make(t, version), CUDALibrary: made.cuda.Path, CacheDir: t.TempDir(), Precision: FP32,
		Log: slog.New(slog.NewTextHandler(made.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	t.Setenv("FAKE_TRT_CUDA", made.cuda.Path)
	t.Cleanup(func() { // after the backends' own
		for kind, count := range made.cuda.Live() {
			if count != 0 {
				t.Errorf("left on the GPU: %d of %s", count, kind)
			}
		}
	})
	return made
}

func (b *box) backend(t *testing.T) *Backend {
	t.Helper()
	backend, err := New(b.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	return backend
}

func (b *box) open(t *testing.T, backend *Backend, dir string) *Networks {
	t.Helper()
	opened, err := backend.Open(t.Context(), enginetest.Load(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return opened.(*Networks)
}

// call runs one call for n samples of a fixed series and returns its output.
func call(ctx context.Context, m engines.Manifest, networks engines.Networks, name string, n int) ([]float32, error) {
	image, latent := 3*m.Image.Width*m.Image.Height, m.Latent.Channels*m.Latent.Width*m.Latent.Height
	values := func(size int, seed uint64) []float32 {
		source := rand.New(rand.NewPCG(seed, 0))
		made := make([]float32, n*size)
		for i := range made {
			made[i] = float32(source.NormFloat64()) / 2
		}
		return made
	}
	timesteps, classes := make([]int, n), make([]int, n)
	for i := range n {
		timesteps[i], classes[i] = 900-70*i, i%max(1, len(m.Classes))
	}
	var err error
	var output []float32
	switch name {
	case "encode":
		output = make([]float32, n*latent)
		var std []float32
		if m.Latent.Encode == engines.EncodeSample {
			std = make([]float32, n*latent)
		}
		err = networks.Encode(ctx, values(image, 1), output, std)
		output = append(output, std...)
	case "predict noise":
		output = make([]float32, n*latent)
		err = networks.PredictNoise(ctx, values(latent, 2), timesteps, classes, output)
	case "compare":
		output = make([]float32, n*m.Latent.Width*m.Latent.Height)
		err = networks.Compare(ctx, values(latent, 3), values(latent, 4), output)
	case "reconstruct":
		output = make([]float32, n*image)
		err = networks.Reconstruct(ctx, values(latent, 5), output)
	case "score":
		output = make([]float32, n*m.Score.MapSize*m.Score.MapSize)
		err = networks.Score(ctx, values(image, 6), values(image, 7), output)
	}
	return output, err
}

// largestDifference of two outputs, as a share of the first one's largest value.
func largestDifference(want, got []float32) float64 {
	scale, difference := 0.0, 0.0
	for i := range want {
		scale = max(scale, math.Abs(float64(want[i])))
		if apart := math.Abs(float64(want[i] - got[i])); !(apart <= difference) {
			difference = apart
		}
	}
	return difference / scale
}

// Every call on every version of TensorRT gives what ONNX Runtime gives, for one
// part, for several, and for more than an engine takes at once; three times, since
// the first call runs engine by engine, the second captures, the third replays.
func TestCallsEqualONNXRuntime(t *testing.T) {
	for _, version := range trttest.All {
		for bundleName, dir := range map[string]string{"tiny-a": enginetest.TinyA(t), "micro": enginetest.Micro(t)} {
			if bundleName == "tiny-a" && version != trttest.V10_3 {
				continue // the larger one once
			}
			t.Run(version.Name+"/"+bundleName, func(t *testing.T) {
				box := newBox(t, version)
				tested := box.open(t, box.backend(t), dir)
				bundle := enginetest.Load(t, dir)
				reference, err := enginetest.Backend(t).Open(t.Context(), bundle)
				if err != nil {
					t.Fatal(err)
				}
				defer reference.Close() //nolint:errcheck // it only gives what is expected
				for _, name := range routineCalls {
					for _, n := range []int{1, 2, 9} {
						want, err := call(t.Context(), bundle.Manifest, reference, name, n)
						if err != nil {
							t.Fatal(err)
						}
						for range 3 {
							got, err := call(t.Context(), bundle.Manifest, tested, name, n)
							if err != nil {
								t.Fatalf("%s of %d: %v", name, n, err)
							}
							if found := largestDifference(want, got); !(found < 1e-5) {
								t.Errorf("%s of %d: differs by %.2g of the largest value", name, n, found)
							}
						}
					}
				}
				for key, routine := range tested.loaded.routines {
					if routine.graph == nil {
						t.Errorf("%s of %d: expected a CUDA graph, found none", key.call, key.batch)
					}
				}
				if found := tested.Runtime(); found.Backend != Name || found.Precision != FP32 || !strings.Contains(found.Library, "TensorRT") || !strings.Contains(found.Library, "Fake Orin") {
					t.Errorf("runtime: found %+v", found)
				}
				if err := errors.Join(tested.Close(), tested.Close()); err != nil {
					t.Error(err)
				}
				if _, err := call(t.Context(), bundle.Manifest, tested, "encode", 1); !errors.Is(err, errClosed) {
					t.Errorf("after closing: found %v", err)
				}
			})
		}
	}
}

// FP16 engines differ from FP32 by what FP16 rounds away, and no more.
func TestHalfPrecision(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	box.options.Precision = FP16
	tested := box.open(t, box.backend(t), enginetest.TinyA(t))
	bundle := enginetest.Load(t, enginetest.TinyA(t))
	reference, err := enginetest.Backend(t).Open(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer reference.Close() //nolint:errcheck // it only gives what is expected
	differs := 0
	for _, name := range routineCalls {
		want, err := call(t.Context(), bundle.Manifest, reference, name, 2)
		if err != nil {
			t.Fatal(err)
		}
		got, err := call(t.Context(), bundle.Manifest, tested, name, 2)
		if err != nil {
			t.Fatal(err)
		}
		found := largestDifference(want, got)
		t.Logf("%s: %.2g of the largest value", name, found)
		if !(found < 0.02) {
			t.Errorf("%s: differs by %.2g of the largest value", name, found)
		}
		if found > 1e-5 {
			differs++
		}
	}
	if differs < 4 {
		t.Errorf("expected FP16 to show, found %d of 5 calls that differ from FP32", differs)
	}
}

func TestEnginesAreBuiltOnce(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	var told []Progress
	box.options.Progress = func(p Progress) { told = append(told, p) }
	bundle := enginetest.Load(t, enginetest.TinyA(t))
	backend := box.backend(t)
	if built, err := backend.Build(t.Context(), bundle, false); built != 5 || err != nil {
		t.Fatalf("expected 5 engines built, found %d, %v", built, err)
	}
	if last := told[len(told)-1]; last.Done != 5 || last.Count != 5 {
		t.Errorf("progress: expected 5 of 5 at the end, found %+v", last)
	}
	if built, err := backend.Build(t.Context(), bundle, false); built != 0 || err != nil {
		t.Errorf("a second time: expected none built, found %d, %v", built, err)
	}
	key := backend.Key(bundle, engines.UNet)
	write(t, box.options.CacheDir, key.name()+planSuffix, "damaged")
	if built, err := backend.Build(t.Context(), bundle, false); built != 1 || err != nil || !strings.Contains(box.log.String(), "it is damaged") {
		t.Errorf("a damaged one: expected it built again and a warning, found %d, %v", built, err)
	}
	if built, err := backend.Build(t.Context(), bundle, true); built != 5 || err != nil {
		t.Errorf("anew: expected 5 built, found %d, %v", built, err)
	}
	entries, err := backend.Cache().List()
	if len(entries) != 5 || err != nil || entries[0].For.Bundle != bundle.Manifest.Name || entries[0].Key.GPU != "Fake Orin" {
		t.Errorf("list: found %+v, %v", entries, err)
	}
	if freed, err := backend.Prune(t.Context(), bundle); freed != 0 || err != nil {
		t.Errorf("prune: expected nothing to remove, found %d bytes, %v", freed, err)
	}
	if _, err := backend.Prune(t.Context()); err != nil {
		t.Error(err)
	}
	if entries, err := backend.Cache().List(); len(entries) != 0 || err != nil {
		t.Errorf("all pruned: found %v, %v", entries, err)
	}
}

// A plan that is whole but that TensorRT refuses is built again; a second refusal
// is an error.
func TestPlanThatTensorRTRefuses(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	bundle := enginetest.Load(t, enginetest.TinyA(t))
	backend := box.backend(t)
	if _, err := backend.Build(t.Context(), bundle, false); err != nil {
		t.Fatal(err)
	}
	key := backend.Key(bundle, engines.DINOGate)
	_, entry, err := backend.Cache().Get(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := backend.Cache().Put(entry, []byte("no plan of TensorRT's")); err != nil {
		t.Fatal(err)
	}
	networks := box.open(t, backend, enginetest.TinyA(t))
	if _, err := call(t.Context(), bundle.Manifest, networks, "compare", 1); err != nil {
		t.Error(err)
	}
	if found, _, err := backend.Cache().Get(key); err != nil || string(found) == "no plan of TensorRT's" {
		t.Errorf("expected the engine built again, found %.20q, %v", found, err)
	}
	if !strings.Contains(box.log.String(), "TensorRT refuses an engine") {
		t.Errorf("expected a warning, found %s", box.log)
	}

	trttest.Fault(t, "deserializeCudaEngine=null")
	_, err = backend.Open(t.Context(), bundle)
	var refused *trt.PlanError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "engine of vae_encoder") {
		t.Errorf("expected a PlanError that names the network, found %v", err)
	}
}

func TestBuildThatIsCanceledLeavesNothing(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	trttest.Fault(t, "buildSerializedNetwork=slow")
	ctx, cancel := context.WithCancel(t.Context())
	box.options.Progress = func(p Progress) {
		if p.Phase != "" {
			cancel()
		}
	}
	backend := box.backend(t)
	built, err := backend.Build(ctx, enginetest.Load(t, enginetest.TinyA(t)), false)
	if built != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("expected to be canceled, found %d built, %v", built, err)
	}
	files, err := os.ReadDir(box.options.CacheDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if ours(file.Name()) {
			t.Errorf("left behind: %s", file.Name())
		}
	}
}

// What fails, in which call, with which words; afterwards the networks work.
func TestFaultsWhileRunning(t *testing.T) {
	for name, test := range map[string]struct {
		fault  func(t *testing.T, box *box)
		want   string
		plain  bool
		repair func(box *box)
	}{
		"TensorRT refuses": {func(t *testing.T, _ *box) { trttest.Fault(t, "enqueueV3=false") }, "enqueueV3", true, nil},
		"a copy fails":     {func(_ *testing.T, b *box) { b.cuda.Fail("cuMemcpyHtoDAsync_v2", 1) }, "CUDA_ERROR_INVALID_VALUE", true, nil},
		"GPU lost":         {func(_ *testing.T, b *box) { b.cuda.Fail("cuStreamSynchronize", 700) }, "CUDA_ERROR_ILLEGAL_ADDRESS", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			box := newBox(t, trttest.V10_3)
			box.options.PlainLaunches = test.plain
			backend := box.backend(t)
			networks := box.open(t, backend, enginetest.TinyA(t))
			other := box.open(t, backend, enginetest.Micro(t))
			m := networks.bundle.Manifest
			before, err := call(t.Context(), m, networks, "compare", 1)
			if err != nil {
				t.Fatal(err)
			}
			test.fault(t, box)
			_, err = call(t.Context(), m, networks, "compare", 1)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "compare on the GPU") {
				t.Errorf("expected an error with %q, found %v", test.want, err)
			}
			trttest.Fault(t, "")
			after, err := call(t.Context(), m, networks, "compare", 1)
			if err != nil || !slices.Equal(before, after) {
				t.Errorf("afterwards: expected the same map as before, found %v", err)
			}
			if _, err := call(t.Context(), other.bundle.Manifest, other, "score", 1); err != nil {
				t.Errorf("the other model: %v", err)
			}
		})
	}
}

func TestNotEnoughMemory(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	box.cuda.Set("memory_bytes", 1<<20)
	_, err := box.backend(t).Open(t.Context(), enginetest.Load(t, enginetest.Micro(t)))
	var short *cuda.OutOfMemoryError
	if !errors.As(err, &short) || short.Requested == 0 || short.Total != 1<<20 {
		t.Errorf("expected what was needed and what is free, found %v", err)
	}
}

func TestHungCall(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	box.options.Timeout = 200 * time.Millisecond
	hung := make(chan error, 1)
	box.options.OnHung = func(err error) { hung <- err }
	networks := box.open(t, box.backend(t), enginetest.TinyA(t))
	m := networks.bundle.Manifest
	box.cuda.Hang("cuStreamSynchronize")
	_, err := call(t.Context(), m, networks, "encode", 1)
	var what *cuda.HungError
	if !errors.As(err, &what) || !errors.As(<-hung, &what) {
		t.Errorf("expected a HungError for the caller and the observer, found %v", err)
	}
	if _, err := call(t.Context(), m, networks, "encode", 1); !errors.As(err, &what) {
		t.Errorf("while it hangs: expected a HungError at once, found %v", err)
	}
	box.cuda.Release()
	deadline := time.Now().Add(10 * time.Second)
	for networks.backend.device.Hung() != nil {
		if time.Now().After(deadline) {
			t.Fatal("the device does not recover")
		}
		time.Sleep(time.Millisecond) // nothing tells when a call that was given up returns
	}
	if _, err := call(t.Context(), m, networks, "encode", 1); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// A decoded picture that is not finite is an error, though nobody sees the picture
// and the map may be finite.
func TestCompareChecksWhatItDecodes(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	networks := box.open(t, box.backend(t), enginetest.TinyA(t))
	m := networks.bundle.Manifest
	latent := m.Latent.Channels * m.Latent.Width * m.Latent.Height
	for name, value := range map[string]float32{"NaN": float32(math.NaN()), "infinity": float32(math.Inf(1)), "too large": 1e38} {
		for at, which := range []string{"test", "reconstruction"} {
			t.Run(name+" in the "+which, func(t *testing.T) {
				latents := [2][]float32{make([]float32, latent), make([]float32, latent)}
				latents[at][3] = value
				err := networks.Compare(t.Context(), latents[0], latents[1], make([]float32, m.Latent.Width*m.Latent.Height))
				var notFinite *engines.NotFiniteError
				if !errors.As(err, &notFinite) || notFinite.Graph.Name != engines.VAEDecoder {
					t.Errorf("expected a NotFiniteError of the decoder, found %v", err)
				}
			})
		}
	}
}

func TestCallsRefuseWhatDoesNotFit(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	networks := box.open(t, box.backend(t), enginetest.TinyA(t))
	m := networks.bundle.Manifest
	latent := make([]float32, m.Latent.Channels*m.Latent.Width*m.Latent.Height)
	for name, run := range map[string]func() error{
		"half a latent":       func() error { return networks.PredictNoise(t.Context(), latent[1:], []int{1}, nil, latent) },
		"no latent":           func() error { return networks.PredictNoise(t.Context(), nil, nil, nil, nil) },
		"a timestep too few":  func() error { return networks.PredictNoise(t.Context(), latent, nil, nil, slices.Clone(latent)) },
		"no room for the map": func() error { return networks.Compare(t.Context(), latent, latent, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(); err == nil || !strings.Contains(err.Error(), "expected ") {
				t.Errorf("expected an error that says what was expected, found %v", err)
			}
		})
	}
}

func TestGraphThatCannotBeCaptured(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	box.cuda.FailAfter("cuGraphInstantiateWithFlags", 801, 0, 1000)
	networks := box.open(t, box.backend(t), enginetest.TinyA(t))
	if _, err := call(t.Context(), networks.bundle.Manifest, networks, "compare", 1); err != nil {
		t.Error(err)
	}
	if !strings.Contains(box.log.String(), "no CUDA graph") {
		t.Errorf("expected a warning, found %s", box.log)
	}
}

func TestTwoProgramsOnOneGPU(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	box.backend(t)
	box.backend(t)
	if count := strings.Count(box.log.String(), "another gladd uses this GPU"); count != 1 {
		t.Errorf("expected one warning, found %d", count)
	}
}

func TestOpenRefuses(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	for name, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"precision":   {func(o *Options) { o.Precision = "int8" }, "precision: expected fp16 or fp32, found \"int8\""},
		"no driver":   {func(o *Options) { o.CUDALibrary = "/nowhere/libcuda.so.1" }, "without an NVIDIA GPU and its driver use backend onnxruntime"},
		"no TensorRT": {func(o *Options) { o.Library = "/nowhere/libnvinfer.so.10" }, "/nowhere/libnvinfer.so.10"},
	} {
		t.Run(name, func(t *testing.T) {
			options := box.options
			test.change(&options)
			if _, err := New(options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("expected %q, found %v", test.want, err)
			}
		})
	}
	t.Run("no GPU", func(t *testing.T) {
		box.cuda.Set("device_count", 0)
		defer box.cuda.Set("device_count", 1)
		var gpu *GPUError
		if _, err := New(box.options); !errors.As(err, &gpu) {
			t.Errorf("expected a GPUError, found %v", err)
		}
	})
}

// Nothing grows from call to call.
func TestManyCalls(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	networks := box.open(t, box.backend(t), enginetest.TinyA(t))
	m := networks.bundle.Manifest
	for range 3 {
		if _, err := call(t.Context(), m, networks, "predict noise", 1); err != nil {
			t.Fatal(err)
		}
	}
	before := fmt.Sprint(box.cuda.Live())
	for range 500 {
		if _, err := call(t.Context(), m, networks, "predict noise", 1); err != nil {
			t.Fatal(err)
		}
	}
	if after := fmt.Sprint(box.cuda.Live()); after != before {
		t.Errorf("before 500 calls %s, after them %s", before, after)
	}
}

// What the figures are is for a GPU to say; that every way runs shows here.
func TestOverheads(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	networks := box.open(t, box.backend(t), enginetest.Micro(t))
	found, memory, err := networks.Overheads(t.Context(), 3)
	if err != nil || len(found) != len(routineCalls) || memory.Total != 1<<30 || memory.Free == 0 || memory.Free >= memory.Total {
		t.Fatalf("found %+v, %+v, %v", found, memory, err)
	}
	for i, each := range found {
		if each.Call != routineCalls[i] || each.Whole <= 0 || each.Bare < 0 || each.Graph < 0 {
			t.Errorf("found %+v", each)
		}
	}
}
