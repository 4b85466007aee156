//go:build tensorrt

package tensorrt

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/trt/cuda"
	"gladd/trt/trttest"
)

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
	box.cuda.Set("memory_bytes", 1<<18)
	_, err := box.backend(t).Open(t.Context(), enginetest.Load(t, enginetest.Micro(t)))
	var short *cuda.OutOfMemoryError
	if !errors.As(err, &short) || short.Requested == 0 || short.Total != 1<<18 {
		t.Errorf("expected what was needed and what is free, found %v", err)
	}
}

func TestHungCall(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	box.options.Timeout = 200 * time.Millisecond
	hung := make(chan error, 1)
	box.options.OnHung = func(err error) { hung <- err }
	recovered := make(chan struct{})
	box.options.OnRecovered = func() { close(recovered) }
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
	<-recovered
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

// A graph that cannot be captured leaves its engines launched one by one; one capture
// may be spoilt by what another thread does meanwhile, as a build.
func TestGraphThatCannotBeCaptured(t *testing.T) {
	for name, test := range map[string]struct {
		symbol                string
		code, after, failures int
		graphs                int
	}{
		"never":                 {"cuGraphInstantiateWithFlags", 801, 0, 1000, 0},
		"the second time":       {"cuGraphInstantiateWithFlags", 801, 0, 1, len(routineCalls)},
		"not the second time":   {"cuGraphInstantiateWithFlags", 801, 0, 2, len(routineCalls) - 1},
		"it cannot begin":       {"cuStreamBeginCapture_v2", 901, 0, 1, len(routineCalls)},
		"what it holds fails":   {"cuMemcpyHtoDAsync_v2", 901, 2, 1, len(routineCalls)}, // after two runs engine by engine
		"what it holds, always": {"cuMemcpyHtoDAsync_v2", 901, 2, 2, len(routineCalls) - 1},
	} {
		t.Run(name, func(t *testing.T) {
			box := newBox(t, trttest.V10_3)
			box.cuda.FailAfter(test.symbol, test.code, test.after, test.failures)
			networks := box.open(t, box.backend(t), enginetest.Micro(t))
			graphs := 0
			for _, name := range routineCalls {
				if _, err := call(t.Context(), networks.bundle.Manifest, networks, name, 1); err != nil {
					t.Error(err)
				}
				if networks.loaded.routines[name].graph != nil {
					graphs++
				}
			}
			if graphs != test.graphs {
				t.Errorf("expected %d CUDA graphs, found %d", test.graphs, graphs)
			}
			if found := strings.Contains(box.log.String(), "no CUDA graph"); found != (test.graphs < len(routineCalls)) {
				t.Errorf("expected a warning: %t, found %s", !found, box.log)
			}
		})
	}
}
