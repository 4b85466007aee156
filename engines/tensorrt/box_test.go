//go:build tensorrt

package tensorrt

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"gladd/engines"
	"gladd/engines/enginetest"
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
	log     *journal
}

// journal keeps what is logged, by whichever goroutine.
type journal struct {
	mutex   sync.Mutex
	text    strings.Builder
	written chan struct{} // has one when something was logged
}

func newJournal() *journal { return &journal{written: make(chan struct{}, 1)} }

func (j *journal) Write(line []byte) (int, error) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	select {
	case j.written <- struct{}{}:
	default:
	}
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	return j.text.String()
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newBox(t *testing.T, version trttest.Fake) *box {
	t.Helper()
	made := &box{cuda: cudatest.Library(t), log: newJournal()}
	made.cuda.Set("memory_bytes", 1<<30)
	made.cuda.Set("pinned_bytes", 1<<30)
	made.cuda.Set("uuid", rand.Int()) // a GPU that no other test uses
	if version == trttest.RTX {
		made.cuda.Set("compute_minor", 6) // which it supports, unlike an Orin's
	}
	made.options = Options{
		Library: trttest.Make(t, version), CUDALibrary: made.cuda.Path, CacheDir: t.TempDir(), Precision: FP32,
		Log: made.log.logger(),
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
