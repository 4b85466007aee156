package app

import (
	"gladd/capture"
	"gladd/engines/onnxruntime"
	"gladd/engines/tensorrt"
)

// Library is a shared library that gladd uses.
type Library struct {
	Name  string
	Found string // version and place, or why it cannot be used
}

// Libraries says which shared libraries are there. A missing one is no error:
// that is what is asked.
func Libraries(options EngineOptions) []Library {
	tensorRT, driver := tensorrt.Found(options.TensorRT.Library, options.TensorRT.CUDALibrary)
	return []Library{
		{Name: "OpenCV", Found: capture.OpenCVVersion()},
		{Name: "ONNX Runtime", Found: onnxRuntime(options.ONNXRuntimeLibrary)},
		{Name: "TensorRT", Found: tensorRT},
		{Name: "GPU", Found: driver},
	}
}

func onnxRuntime(library string) string {
	backend, err := onnxruntime.New(onnxruntime.Options{Library: library})
	if err != nil {
		return err.Error()
	}
	defer backend.Close()
	return backend.String()
}
