package app

import (
	"fmt"
	"log/slog"

	"gladd/engines"
	"gladd/engines/onnxruntime"
)

// The backends that a user can ask for.
const (
	BackendAuto            = "auto"
	BackendONNXRuntime     = onnxruntime.Name
	BackendONNXRuntimeCUDA = onnxruntime.NameCUDA
	BackendTensorRT        = "tensorrt"
)

// EngineOptions say what runs the networks.
type EngineOptions struct {
	Backend string
	// Threads for each network call on a CPU; 0: all.
	Threads int
	// ONNXRuntimeLibrary is the path of the shared library; empty: looked for.
	ONNXRuntimeLibrary string
}

// openBackend opens the backend that was asked for, or chooses one and says
// which and why.
func openBackend(options EngineOptions, log *slog.Logger) (engines.Backend, error) {
	switch options.Backend {
	case BackendAuto, BackendONNXRuntime, BackendONNXRuntimeCUDA:
	case BackendTensorRT:
		return nil, fmt.Errorf("backend %s: this version of gladd does not have it; use %s, %s or %s", options.Backend, BackendAuto, BackendONNXRuntime, BackendONNXRuntimeCUDA)
	default:
		return nil, fmt.Errorf("backend %q: expected %s, %s, %s or %s", options.Backend, BackendAuto, BackendONNXRuntime, BackendONNXRuntimeCUDA, BackendTensorRT)
	}
	backend, err := onnxruntime.New(onnxruntime.Options{
		Library: options.ONNXRuntimeLibrary,
		CUDA:    options.Backend == BackendONNXRuntimeCUDA,
		Threads: options.Threads,
		Log:     log,
	})
	if err != nil {
		return nil, err
	}
	if options.Backend == BackendAuto {
		log.Info("backend onnxruntime chosen", "reason", "this version of gladd has no TensorRT backend")
	}
	return backend, nil
}
