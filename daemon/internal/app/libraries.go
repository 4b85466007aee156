package app

import (
	"gladd/capture"
	"gladd/engines/onnxruntime"
)

// Library is a shared library that gladd uses.
type Library struct {
	Name  string
	Found string // version and place, or why it cannot be used
}

// Libraries says which shared libraries are there. A missing one is no error:
// that is what is asked.
func Libraries(onnxRuntimeLibrary string) []Library {
	return []Library{
		{Name: "OpenCV", Found: capture.OpenCVVersion()},
		{Name: "ONNX Runtime", Found: onnxRuntime(onnxRuntimeLibrary)},
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
