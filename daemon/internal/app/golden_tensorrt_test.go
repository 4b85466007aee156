//go:build tensorrt

package app_test

import (
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
