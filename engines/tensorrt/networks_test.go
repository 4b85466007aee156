//go:build tensorrt

package tensorrt

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/trt/cuda/cudatest"
	"gladd/trt/trttest"
)

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
				parts := []int{1, 2, 9}
				if testing.Short() && bundleName == "tiny-a" {
					parts = parts[:2] // an emulated processor is slow; the smaller bundle has them all
				}
				for _, name := range routineCalls {
					for _, n := range parts {
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
				for name, routine := range tested.loaded.routines {
					if routine.graph == nil {
						t.Errorf("%s: expected a CUDA graph, found none", name)
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

// 8.x takes whole numbers of 64 bits as such of 32; here another version does, as its
// headers come with the system only.
func TestWholeNumbersOf32Bits(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	trttest.Fault(t, "int64=narrow")
	tested := box.open(t, box.backend(t), enginetest.Micro(t))
	bundle := enginetest.Load(t, enginetest.Micro(t))
	if found := tested.loaded.tensors[place(engines.UNet, "class_index")]; found.kind != narrow {
		t.Fatalf("expected classes of 32 bits, found %s", found.kind)
	}
	reference, err := enginetest.Backend(t).Open(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer reference.Close() //nolint:errcheck // it only gives what is expected
	want, err := call(t.Context(), bundle.Manifest, reference, "predict noise", 9)
	if err != nil {
		t.Fatal(err)
	}
	got, err := call(t.Context(), bundle.Manifest, tested, "predict noise", 9)
	if err != nil {
		t.Fatal(err)
	}
	if found := largestDifference(want, got); !(found < 1e-5) {
		t.Errorf("differs by %.2g of the largest value", found)
	}
}

// FP16 engines differ from FP32 by what FP16 rounds away, and no more. Where the
// processor has FP16 arithmetic, ONNX Runtime also adds up in FP16; elsewhere it
// computes each operator in FP32.
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
	limit := 0.02
	if runtime.GOARCH == "arm64" {
		limit = 0.05
	}
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
		if !(found < limit) {
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

// Nothing grows in 10,000 calls, on the GPU or in C's memory.
func TestManyCalls(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	networks := box.open(t, box.backend(t), enginetest.Micro(t))
	m := networks.bundle.Manifest
	each := 2000
	if testing.Short() {
		each = 20 // as above
	}
	run := func(times int) {
		t.Helper()
		for _, name := range routineCalls {
			for range times {
				if _, err := call(t.Context(), m, networks, name, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	run(10)
	before, heap := fmt.Sprint(box.cuda.Live()), cudatest.HeapBytes()
	run(each)
	if after := fmt.Sprint(box.cuda.Live()); after != before {
		t.Errorf("before the calls %s, after them %s", before, after)
	}
	// A leak of a hundred bytes a call would be 1 MB.
	if grown := cudatest.HeapBytes() - heap; grown > 1<<19 {
		t.Errorf("%d calls took %d bytes of C's memory", each*len(routineCalls), grown)
	}
}

// What the figures are is for a GPU to say; that every way runs shows here.
func TestOverheads(t *testing.T) {
	for name, plain := range map[string]bool{"CUDA graphs": false, "one by one": true} {
		t.Run(name, func(t *testing.T) {
			box := newBox(t, trttest.V10_3)
			box.options.PlainLaunches = plain
			networks := box.open(t, box.backend(t), enginetest.Micro(t))
			found, memory, err := networks.Overheads(t.Context(), 3)
			if err != nil || len(found) != len(routineCalls) || memory.Total != 1<<30 || memory.Free == 0 || memory.Free >= memory.Total {
				t.Fatalf("found %+v, %+v, %v", found, memory, err)
			}
			for i, each := range found {
				if each.Call != routineCalls[i] || min(each.Whole, each.Bare, each.Copies, each.Plain) <= 0 || (each.Graph == 0) != plain {
					t.Errorf("found %+v", each)
				}
			}
		})
	}
}

func TestBars(t *testing.T) {
	alone := Overhead{Bare: 8, Copies: 2, Plain: 10.1, Whole: 10.4}
	for name, test := range map[string]struct {
		change        func(*Overhead)
		events, whole float64
		passes        bool
	}{
		"within both":            {func(*Overhead) {}, 1.01, 1.04, true},
		"slower by events":       {func(o *Overhead) { o.Plain = 10.3 }, 1.03, 1.04, false},
		"slower from outside":    {func(o *Overhead) { o.Whole = 10.6 }, 1.01, 1.06, false},
		"its CUDA graph counts":  {func(o *Overhead) { o.Graph = 10.3 }, 1.03, 1.04, false},
		"and may be the quicker": {func(o *Overhead) { o.Plain, o.Graph = 12, 9 }, 0.9, 1.04, true},
	} {
		t.Run(name, func(t *testing.T) {
			o := alone
			test.change(&o)
			if math.Abs(o.Events()-test.events) > 1e-9 || math.Abs(o.EndToEnd()-test.whole) > 1e-9 || o.Passes() != test.passes {
				t.Errorf("expected %v, %v and %t, found %v, %v and %t", test.events, test.whole, test.passes, o.Events(), o.EndToEnd(), o.Passes())
			}
		})
	}
}

// Stations of one model share its networks.
func TestCallsAreSafeForConcurrentUse(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	networks := box.open(t, box.backend(t), enginetest.Micro(t))
	m := networks.bundle.Manifest
	want := map[string][]float32{}
	for _, name := range routineCalls {
		output, err := call(t.Context(), m, networks, name, 2)
		if err != nil {
			t.Fatal(err)
		}
		want[name] = output
	}
	var group sync.WaitGroup
	for range 3 {
		for _, name := range routineCalls {
			group.Go(func() {
				output, err := call(t.Context(), m, networks, name, 2)
				if err != nil || !slices.Equal(output, want[name]) {
					t.Errorf("%s beside others: another output, or %v", name, err)
				}
			})
		}
	}
	group.Wait()
}

// A plan of weights that changed since the bundle was loaded would be kept for
// ever: they are checked once more before it is built. The fakes cannot read weights
// beside a graph; TestRTXBuildsWhatGladdBuilds does.
func TestExternalWeightsAreCheckedAgain(t *testing.T) {
	dir := externalWeights(t)
	bundle := enginetest.Load(t, dir)
	box := newBox(t, trttest.V10_3)
	backend := box.backend(t)
	path := filepath.Join(dir, "external.weights")
	changed := enginetest.ReadFile(t, path)
	changed[len(changed)/2] ^= 1
	enginetest.WriteFile(t, path, changed)
	if _, err := backend.Build(t.Context(), bundle, false); err == nil || !strings.Contains(err.Error(), "external.weights: wrong content") {
		t.Errorf("changed weights: found %v", err)
	}
}

// externalWeights is a bundle whose decoder has its weights in another file.
func externalWeights(t *testing.T) (dir string) {
	t.Helper()
	dir = enginetest.Copy(t, enginetest.Micro(t))
	weights := enginetest.ReadFile(t, enginetest.Path(t, "engines/testdata/graphs/external.weights"))
	enginetest.ReplaceGraph(t, dir, engines.VAEDecoder, enginetest.ReadFile(t, enginetest.Path(t, "engines/testdata/graphs/external.onnx")))
	enginetest.WriteFile(t, filepath.Join(dir, "external.weights"), weights)
	enginetest.Edit(t, dir, `"file": "vae_decoder.onnx",`,
		`"file": "vae_decoder.onnx", "external_data": [{"file": "external.weights", "sha256": "`+enginetest.Digest(weights)+`"}],`)
	return dir
}
