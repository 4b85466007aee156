//go:build tensorrt

package tensorrt

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"gladd/engines/enginetest"
	"gladd/trt/cuda/cudatest"
	"gladd/trt/trttest"
)

// A GPU that cannot be brought back, or that computes otherwise afterwards, gives nothing
// any more, and whoever can start the process again is told once.
func TestGPUThatIsLostForThisProcess(t *testing.T) {
	for name, test := range map[string]struct {
		fault func(t *testing.T, box *box, networks *Networks)
		want  string
	}{
		"its context does not work": {func(_ *testing.T, b *box, _ *Networks) {
			b.cuda.FailAfter("cuStreamCreate", 700, 0, cudatest.Always)
		}, "its context could not be made anew: CUDA device 0: it does not work after a reset"},
		"TensorRT does not begin anew": {func(t *testing.T, _ *box, _ *Networks) {
			trttest.Fault(t, "createInferRuntime=null")
		}, "TensorRT cannot begin anew: "},
		"engines are refused": {func(t *testing.T, _ *box, _ *Networks) {
			trttest.Fault(t, "deserializeCudaEngine=null")
		}, "its engines could not be loaded anew: "},
		"it is lost again": {func(_ *testing.T, b *box, _ *Networks) {
			b.cuda.FailAfter("cuGraphLaunch", 719, 0, 1)
		}, "its engines could not be loaded anew: warm up: encode: CUDA device 0: launch a graph: cuGraphLaunch: "},
		"it computes otherwise": {func(_ *testing.T, _ *box, n *Networks) {
			for _, values := range n.proofs {
				values[len(values)/2]++
			}
		}, "its engines were loaded anew and do not compute what they did: "},
	} {
		t.Run(name, func(t *testing.T) {
			box := newBox(t, trttest.V10_3)
			var told []error
			box.options.OnLost = func(err error) { told = append(told, err) }
			backend := box.backend(t)
			networks := box.open(t, backend, enginetest.TinyA(t))
			other := box.open(t, backend, enginetest.Micro(t))
			lose(t, box, networks)
			if len(told) != 0 {
				t.Errorf("a loss alone: expected nobody told, found %v", told)
			}
			test.fault(t, box, networks)
			for _, each := range []*Networks{networks, other, networks} {
				_, err := call(t.Context(), each.bundle.Manifest, each, "compare", 1)
				var gone *LostError
				if !errors.As(err, &gone) || !IsMachine(err) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "start gladd again") {
					t.Errorf("expected a LostError with %q, found %v", test.want, err)
				}
			}
			if fault := backend.Fault(); len(told) != 1 || !errors.Is(fault, told[0]) {
				t.Errorf("expected to be told once of the fault %v, found %v", fault, told)
			}
			if text := box.log.String(); strings.Count(text, "GPU lost: this process cannot use it again") != 1 {
				t.Errorf("expected one line of the log, found %s", text)
			}
			trttest.Fault(t, "")
			box.cuda.FailAfter("cuStreamCreate", 0, 0, cudatest.Never)
		})
	}
}

// lose makes a call lose the GPU.
func lose(t *testing.T, box *box, networks *Networks) {
	t.Helper()
	box.cuda.Fail("cuStreamSynchronize", 700)
	if _, err := call(t.Context(), networks.bundle.Manifest, networks, "compare", 1); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_ILLEGAL_ADDRESS") {
		t.Fatalf("expected the GPU lost, found %v", err)
	}
}

// late is a context whose deadline passes after it was looked at once.
type late struct {
	context.Context
	looked bool
}

func (l *late) Done() <-chan struct{} { return nil }

func (l *late) Err() error {
	if !l.looked {
		l.looked = true
		return nil
	}
	return context.DeadlineExceeded
}

// Engines that take longer to load than a part has are loaded all the same.
func TestLoadingOutlivesThePart(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	box.options.OnLost = func(err error) { t.Error(err) }
	networks := box.open(t, box.backend(t), enginetest.Micro(t))
	lose(t, box, networks)
	if _, err := call(&late{Context: t.Context()}, networks.bundle.Manifest, networks, "compare", 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("expected the part late, found %v", err)
	}
	if networks.loaded == nil {
		t.Error("expected the engines loaded")
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := call(soon, networks.bundle.Manifest, networks, "compare", 1); err != nil {
		t.Error(err)
	}
}

func TestUnlike(t *testing.T) {
	nan, infinity := float32(math.NaN()), float32(math.Inf(1))
	for name, test := range map[string]struct {
		first, now []float32
		unlike     bool
	}{
		"the same":          {[]float32{1, -2}, []float32{1, -2}, false},
		"all but":           {[]float32{1, -2}, []float32{1.01, -2}, false},
		"further off":       {[]float32{1, -2}, []float32{1.03, -2}, true},
		"zeros":             {[]float32{0, 0}, []float32{0, 0}, false},
		"zeros before":      {[]float32{0, 0}, []float32{0, 1e-6}, true},
		"zeros now":         {[]float32{1, 0}, []float32{0, 0}, true},
		"NaN now":           {[]float32{1, -2, 1}, []float32{nan, -2, 1}, true},
		"NaN before":        {[]float32{nan, -2}, []float32{1, -2}, true},
		"NaN both":          {[]float32{nan, -2}, []float32{nan, -2}, false},
		"infinite now":      {[]float32{1, -2}, []float32{1, infinity}, true},
		"infinite both":     {[]float32{1, infinity}, []float32{1, infinity}, false},
		"fewer than before": {[]float32{1, -2}, []float32{1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			err := unlike(map[string][]float32{"score": test.first}, map[string][]float32{"score": test.now})
			if (err != nil) != test.unlike || err != nil && !strings.HasPrefix(err.Error(), "score: ") {
				t.Errorf("expected them unlike: %t, found %v", test.unlike, err)
			}
		})
	}
}
