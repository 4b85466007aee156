package app

import (
	"errors"
	"strings"

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

// Backends says of each backend whether it can be used: "here", "not here: ..." or
// "broken: ...", if what it needs is here but does not work.
func Backends(options EngineOptions) []Library {
	state := func(err error) string {
		var library *onnxruntime.LibraryError
		var gpuBuild *onnxruntime.CUDAError
		switch {
		case err == nil:
			return "here"
		case tensorrt.Absent(err):
			return "not here: " + tensorrt.Missing(err)
		case errors.As(err, &gpuBuild):
			return "not here: no GPU build of ONNX Runtime is here"
		case errors.As(err, &library) && library.Err == nil:
			return "not here: no ONNX Runtime is here"
		}
		return "broken: " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	backend, err := onnxruntime.New(onnxruntime.Options{Library: options.ONNXRuntimeLibrary})
	if err == nil {
		backend.Close()
	}
	return []Library{
		{Name: BackendONNXRuntime, Found: state(err)},
		{Name: BackendONNXRuntimeCUDA, Found: state(onnxruntime.PresentCUDA(options.ONNXRuntimeLibrary, options.TensorRT.CUDALibrary))},
		{Name: BackendTensorRT, Found: state(tensorrt.Present(options.TensorRT.Library, options.TensorRT.CUDALibrary))},
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
