//go:build tensorrt

package app_test

import (
	"log/slog"
	"os"
	"testing"

	"gladd/daemon/internal/app"
	"gladd/engines/enginetest"
	"gladd/trt/cuda/cudatest"
	"gladd/trt/trttest"
)

// The whole way through TensorRT gives the official code's values. The GPU and
// TensorRT are fakes that compute what ONNX Runtime computes; on a GPU see make
// test-gpu.
func TestGoldenTinyAOnTensorRT(t *testing.T) {
	defer trttest.Cleanup()
	for precision, times := range map[string]float64{"fp32": 1, "fp16": fp16Tolerance} {
		t.Run(precision, func(t *testing.T) {
			driver := cudatest.Library(t)
			driver.Set("memory_bytes", 1<<30)
			driver.Set("pinned_bytes", 1<<30)
			t.Setenv("FAKE_TRT_CUDA", driver.Path)
			model := openModelOn(t, enginetest.Load(t, enginetest.TinyA(t)), app.EngineOptions{
				Backend: app.BackendTensorRT,
				TensorRT: app.TensorRTOptions{
					Library: trttest.Make(t, trttest.V10_3), CUDALibrary: driver.Path, CacheDir: t.TempDir(), Precision: precision,
				},
			})
			if found := model.Runtime; found.Backend != "tensorrt" || found.Precision != precision {
				t.Errorf("expected tensorrt, %s, found %+v", precision, found)
			}
			goldenTinyA(t, model, times)
		})
	}
}

// fp16Tolerance is how many times as far as in FP32 values may be apart.
const fp16Tolerance = 5

// The same on a true GPU with true libraries: see make test-gpu.
func TestGoldenTinyAOnThisMachine(t *testing.T) {
	if os.Getenv("GLADD_TEST_GPU") == "" {
		t.Skip("GLADD_TEST_GPU does not say that there is a GPU")
	}
	for _, backend := range []string{app.BackendTensorRT, app.BackendONNXRuntimeCUDA} {
		t.Run(backend, func(t *testing.T) {
			options := app.EngineOptions{
				Backend: backend, ONNXRuntimeLibrary: os.Getenv("GLADD_ONNXRUNTIME_CUDA_LIBRARY"),
				TensorRT: app.TensorRTOptions{Library: os.Getenv("GLADD_TENSORRT_LIBRARY"), CacheDir: t.TempDir()},
			}
			opened, err := app.OpenEngines(options, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Skipf("not run: %v", err)
			}
			opened.Close() //nolint:errcheck // it was only tried
			goldenTinyA(t, openModelOn(t, enginetest.Load(t, enginetest.TinyA(t)), options), fp16Tolerance)
		})
	}
}
