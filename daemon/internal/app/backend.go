package app

import (
	"fmt"
	"log/slog"

	"gladd/engines"
	"gladd/engines/onnxruntime"
	"gladd/engines/tensorrt"
)

// The backends that a user can ask for.
const (
	BackendAuto            = "auto"
	BackendONNXRuntime     = onnxruntime.Name
	BackendONNXRuntimeCUDA = onnxruntime.NameCUDA
	BackendTensorRT        = tensorrt.Name
)

// EngineOptions say what runs the networks.
type EngineOptions struct {
	Backend string
	// Threads for each network call on a CPU; 0: all.
	Threads int
	// ONNXRuntimeLibrary is the path of the shared library; empty: looked for.
	ONNXRuntimeLibrary string
	// TensorRT is for the backend of that name.
	TensorRT TensorRTOptions
}

// TensorRTOptions say where TensorRT is and where its engines are kept.
type TensorRTOptions struct {
	Library     string // path of the shared library; empty: looked for
	CUDALibrary string // path of the GPU driver's; empty: looked for
	CacheDir    string
	Precision   string // fp16 | fp32; empty: fp16
	Progress    func(tensorrt.Progress)
}

// OpenTensorRT opens the backend that builds and runs engines.
func OpenTensorRT(options TensorRTOptions, log *slog.Logger) (*tensorrt.Backend, error) {
	return tensorrt.New(tensorrt.Options{
		Library:     options.Library,
		CUDALibrary: options.CUDALibrary,
		CacheDir:    options.CacheDir,
		Precision:   options.Precision,
		Progress:    options.Progress,
		Log:         log,
	})
}

// openBackend opens the backend that was asked for, or chooses one and says
// which and why.
func openBackend(options EngineOptions, log *slog.Logger) (engines.Backend, error) {
	switch options.Backend {
	case BackendONNXRuntime, BackendONNXRuntimeCUDA:
	case BackendAuto:
		backend, err := OpenTensorRT(options.TensorRT, log)
		if err == nil {
			log.Info("backend tensorrt chosen", "reason", "TensorRT and a GPU are here")
			return backend, nil
		}
		log.Info("backend onnxruntime chosen", "reason", tensorrt.Missing(err))
		log.Debug("backend tensorrt cannot be used", "error", err)
	case BackendTensorRT:
		return OpenTensorRT(options.TensorRT, log)
	default:
		return nil, fmt.Errorf("backend %q: expected %s, %s, %s or %s", options.Backend, BackendAuto, BackendONNXRuntime, BackendONNXRuntimeCUDA, BackendTensorRT)
	}
	return onnxruntime.New(onnxruntime.Options{
		Library: options.ONNXRuntimeLibrary,
		CUDA:    options.Backend == BackendONNXRuntimeCUDA,
		Threads: options.Threads,
		Log:     log,
	})
}
