package onnxruntime_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gladd/engines/enginetest"
	"gladd/engines/onnxruntime"
)

func TestGPUBuildIsMissing(t *testing.T) {
	for name, library := range map[string]string{"the processors' build": enginetest.Library(t), "none beside the program": ""} {
		t.Run(name, func(t *testing.T) {
			_, err := onnxruntime.New(onnxruntime.Options{Library: library, CUDA: true})
			var cuda *onnxruntime.CUDAError
			if !errors.As(err, &cuda) || cuda.Library != library || !onnxruntime.IsMachine(err) || !strings.Contains(err.Error(), "libonnxruntime_providers_cuda.so") || !strings.Contains(err.Error(), "use backend onnxruntime") {
				t.Errorf("expected a CUDAError of the machine with what is missing and what to do, found %v", err)
			}
		})
	}
}

// A library that has the provider beside it but was not built for it, as after a
// mixed-up copy: the provider's own error comes through.
func TestGPUBuildThatIsNone(t *testing.T) {
	dir := t.TempDir()
	library := filepath.Join(dir, "libonnxruntime.so.1")
	for name, target := range map[string]string{library: enginetest.Library(t), filepath.Join(dir, "libonnxruntime_providers_cuda.so"): "/dev/null"} {
		data, err := os.ReadFile(target)
		if err != nil {
			t.Fatal(err)
		}
		enginetest.WriteFile(t, name, data)
	}
	backend, err := onnxruntime.New(onnxruntime.Options{Library: library, CUDA: true})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	networks, err := backend.Open(t.Context(), enginetest.Load(t, enginetest.Micro(t)))
	var cuda *onnxruntime.CUDAError
	if networks != nil || !errors.As(err, &cuda) || cuda.Library != library {
		t.Errorf("expected a CUDAError that names %s, found %v", library, err)
	}
}
