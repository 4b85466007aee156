//go:build tensorrt

package app_test

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"gladd/daemon/internal/app"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/engines/tensorrt"
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
			driver := fakeGPU(t)
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

// fakeGPU is a driver with enough memory, which the fake TensorRT computes on.
func fakeGPU(t *testing.T) *cudatest.Fake {
	t.Helper()
	driver := cudatest.Library(t)
	driver.Set("memory_bytes", 1<<30)
	driver.Set("pinned_bytes", 1<<30)
	t.Setenv("FAKE_TRT_CUDA", driver.Path)
	return driver
}

// A GPU that this process cannot bring back gives no verdict, and is told to whoever
// can start the process again.
func TestLostGPUIsToldOf(t *testing.T) {
	defer trttest.Cleanup()
	driver := fakeGPU(t)
	var told []error
	model := openModelOn(t, enginetest.Load(t, enginetest.Micro(t)), app.EngineOptions{
		Backend:  app.BackendTensorRT,
		TensorRT: app.TensorRTOptions{Library: trttest.Make(t, trttest.V10_3), CUDALibrary: driver.Path, CacheDir: t.TempDir()},
		OnLost:   func(err error) { told = append(told, err) },
	})
	driver.Fail("cuStreamSynchronize", 700)
	driver.FailAfter("cuStreamCreate", 700, 0, cudatest.Always)
	for want := range 2 {
		outcome := model.SelfTest(t.Context(), 0, nil, nil, nil)
		if outcome.Evaluation != verdict.Undefined || outcome.Reason.Code != verdict.ReasonEngine {
			t.Errorf("expected Undefined, engine, found %+v", outcome.Reason)
		}
		if len(told) != want {
			t.Errorf("expected to be told %d times, found %v", want, told)
		}
	}
	driver.FailAfter("cuStreamCreate", 0, 0, cudatest.Never)
	if len(told) == 1 && !app.IsMachine(told[0]) {
		t.Errorf("expected an error of the machine, found %v", told[0])
	}
}

// fp16Tolerance is how many times as far as in FP32 values may be apart.
const fp16Tolerance = 5

// The same on a true GPU with true libraries: see make test-gpu, which names the
// backends that are there.
func TestGoldenTinyAOnThisMachine(t *testing.T) {
	if os.Getenv("GLADD_TEST_GPU") == "" {
		t.Skip("GLADD_TEST_GPU does not say that there is a GPU")
	}
	for _, run := range []struct {
		backend, precision string
		times              float64
	}{
		{app.BackendTensorRT, "fp16", fp16Tolerance},
		{app.BackendTensorRT, "fp32", 1},
		{app.BackendONNXRuntimeCUDA, "fp32", 1},
	} {
		t.Run(run.backend+"/"+run.precision, func(t *testing.T) {
			if !slices.Contains(strings.Fields(os.Getenv("GLADD_TEST_BACKENDS")), run.backend) {
				t.Skip("GLADD_TEST_BACKENDS does not name it")
			}
			model := openModelOn(t, enginetest.Load(t, enginetest.TinyA(t)), app.EngineOptions{
				Backend: run.backend, ONNXRuntimeLibrary: os.Getenv("GLADD_ONNXRUNTIME_CUDA_LIBRARY"),
				TensorRT: app.TensorRTOptions{Library: os.Getenv("GLADD_TENSORRT_LIBRARY"), CUDALibrary: os.Getenv("GLADD_CUDA_LIBRARY"), CacheDir: t.TempDir(), Precision: run.precision},
			})
			if found := model.Runtime; found.Backend != run.backend || found.Precision != run.precision {
				t.Errorf("expected %s, %s, found %+v", run.backend, run.precision, found)
			}
			goldenTinyA(t, model, run.times)
		})
	}
}

// auto takes TensorRT unless the bundle's thresholds would be of no use there.
func TestAutoFollowsTheCalibration(t *testing.T) {
	defer trttest.Cleanup()
	driver := fakeGPU(t)
	library := trttest.Make(t, trttest.V10_3)
	for name, test := range map[string]struct {
		calibrated []string
		gpu        bool
		want       string // the backend; empty: an error
	}{
		"not calibrated":              {nil, true, app.BackendTensorRT},
		"for processors":              {[]string{app.BackendONNXRuntime}, true, app.BackendONNXRuntime},
		"for both":                    {[]string{app.BackendTensorRT, app.BackendONNXRuntime}, true, app.BackendTensorRT},
		"for TensorRT":                {[]string{app.BackendTensorRT}, true, app.BackendTensorRT},
		"for TensorRT, without a GPU": {[]string{app.BackendTensorRT}, false, ""},
		"for both, without a GPU":     {[]string{app.BackendTensorRT, app.BackendONNXRuntime}, false, app.BackendONNXRuntime},
		"not calibrated, no GPU":      {nil, false, app.BackendONNXRuntime},
	} {
		t.Run(name, func(t *testing.T) {
			dir := enginetest.Copy(t, enginetest.TinyA(t))
			digest := enginetest.Load(t, dir).ModelDigest
			for i, backend := range test.calibrated {
				entry := engines.Calibration{
					ID: fmt.Sprint("c", i), ModelDigest: digest, GateThreshold: 0.02, ImageThreshold: 1,
					Method: engines.Method{Backend: backend, Precision: "fp32", Mode: engines.ModeExact, Plan: engines.PlanExact},
				}
				if err := engines.AppendCalibration(dir, entry); err != nil {
					t.Fatal(err)
				}
			}
			options := app.EngineOptions{
				Backend: app.BackendAuto, ONNXRuntimeLibrary: enginetest.Library(t),
				TensorRT: app.TensorRTOptions{Library: library, CUDALibrary: driver.Path, CacheDir: t.TempDir()},
			}
			if !test.gpu {
				options.TensorRT.CUDALibrary = "/nowhere/libcuda.so.1"
			}
			opened, err := app.OpenEngines(options, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close() //nolint:errcheck // the test is about the choice
			model, err := opened.OpenModel(t.Context(), enginetest.Load(t, dir), engines.ModeExact)
			switch {
			case test.want == "" && (err == nil || !tensorrt.IsMachine(err) || !strings.Contains(err.Error(), "is calibrated for tensorrt")):
				t.Errorf("expected an error of the machine, found %v", err)
			case test.want != "" && err != nil:
				t.Error(err)
			case test.want != "" && model.Method.Backend != test.want:
				t.Errorf("expected %s, found %s", test.want, model.Method.Backend)
			}
		})
	}
}

// A TensorRT that is here and cannot build is not chosen, and somebody is told to mend
// it; where nothing is, nothing is to be mended.
func TestAutoGoesOnWithoutABrokenTensorRT(t *testing.T) {
	defer trttest.Cleanup()
	driver := cudatest.Library(t)
	t.Setenv("FAKE_TRT_CUDA", driver.Path)
	for name, test := range map[string]struct {
		options     app.TensorRTOptions
		level, want string
	}{
		"no parser":    {app.TensorRTOptions{Library: trttest.WithoutParser(t, trttest.V10_3), CUDALibrary: driver.Path}, "WARN", "ONNX parser, which building engines needs, is missing"},
		"runtime only": {app.TensorRTOptions{Library: trttest.Lean(t, trttest.V10_3), CUDALibrary: driver.Path}, "WARN", "it is runtime only"},
		"no driver":    {app.TensorRTOptions{Library: trttest.Make(t, trttest.V10_3), CUDALibrary: "/nowhere/libcuda.so.1"}, "INFO", "no NVIDIA driver is here"},
	} {
		t.Run(name, func(t *testing.T) {
			options := app.EngineOptions{Backend: app.BackendAuto, ONNXRuntimeLibrary: enginetest.Library(t), TensorRT: test.options}
			var log strings.Builder
			opened, err := app.OpenEngines(options, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close() //nolint:errcheck // the test is about the choice
			model, err := opened.OpenModel(t.Context(), enginetest.Load(t, enginetest.TinyA(t)), engines.ModeExact)
			if err != nil || model.Method.Backend != app.BackendONNXRuntime {
				t.Errorf("expected onnxruntime, found %v, %v", model, err)
			}
			if text := log.String(); strings.Count(text, "level="+test.level+` msg="backend onnxruntime chosen"`) != 1 || !strings.Contains(text, test.want) {
				t.Errorf("expected one %s with %q, found %s", test.level, test.want, text)
			}
			backends := app.Backends(options)
			state, found := "broken: ", backends[len(backends)-1].Found
			if test.level == "INFO" {
				state = "not here: "
			}
			if !strings.HasPrefix(found, state) || !strings.Contains(found, test.want) {
				t.Errorf("version: expected %s%s, found %s", state, test.want, found)
			}
		})
	}
}
