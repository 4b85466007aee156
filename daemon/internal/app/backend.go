package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"

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
	// TensorRT is for the backend of that name, and where the GPU's driver is.
	TensorRT TensorRTOptions
	// OnLost is told when a GPU is lost that this process cannot use again; nil: nobody
	// is.
	OnLost func(error)
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
	return openTensorRT(options, nil, log)
}

func openTensorRT(options TensorRTOptions, onLost func(error), log *slog.Logger) (*tensorrt.Backend, error) {
	return tensorrt.New(tensorrt.Options{
		Library:     options.Library,
		CUDALibrary: options.CUDALibrary,
		CacheDir:    options.CacheDir,
		Precision:   options.Precision,
		Progress:    options.Progress,
		OnLost:      onLost,
		Log:         log,
	})
}

// openBackend opens the backend that was asked for by its name.
func openBackend(name string, options EngineOptions, log *slog.Logger) (engines.Backend, error) {
	switch name {
	case BackendTensorRT:
		return openTensorRT(options.TensorRT, options.OnLost, log)
	case BackendONNXRuntime, BackendONNXRuntimeCUDA:
		return onnxruntime.New(onnxruntime.Options{
			Library: options.ONNXRuntimeLibrary,
			CUDA:    name == BackendONNXRuntimeCUDA,
			Threads: options.Threads,
			Log:     log,

			CUDALibrary: options.TensorRT.CUDALibrary,
			OnLost:      options.OnLost,
		})
	}
	return nil, fmt.Errorf("backend %q: expected %s, %s, %s or %s", name, BackendAuto, BackendONNXRuntime, BackendONNXRuntimeCUDA, BackendTensorRT)
}

// backends are those of a process, each opened when it is first wanted. One
// goroutine at a time opens or chooses; any may ask for faults.
type backends struct {
	options EngineOptions
	log     *slog.Logger
	told    map[string]bool // choices that the log has

	mutex  sync.Mutex
	opened map[string]opened
}

type opened struct {
	backend engines.Backend
	err     error
}

// open opens a backend, or returns what came of it the first time.
func (b *backends) open(name string) (engines.Backend, error) {
	b.mutex.Lock()
	found, tried := b.opened[name]
	b.mutex.Unlock()
	if !tried {
		found.backend, found.err = openBackend(name, b.options, b.log)
		b.mutex.Lock()
		b.opened[name] = found
		b.mutex.Unlock()
	}
	return found.backend, found.err
}

// all are those that were opened.
func (b *backends) all() (all []engines.Backend) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, each := range b.opened {
		if each.err == nil {
			all = append(all, each.backend)
		}
	}
	return all
}

// choose returns the backend for a bundle: the one that was asked for or, for auto,
// TensorRT where it is, unless the bundle's thresholds are for another: they would
// be of no use there.
func (b *backends) choose(bundle *engines.Bundle) (engines.Backend, error) {
	if b.options.Backend != BackendAuto {
		return b.open(b.options.Backend)
	}
	forTensorRT, forOthers := false, false
	for _, each := range bundle.Calibrations {
		if each.ModelDigest == bundle.ModelDigest {
			forTensorRT = forTensorRT || each.Method.Backend == BackendTensorRT
			forOthers = forOthers || each.Method.Backend != BackendTensorRT
		}
	}
	if forOthers && !forTensorRT {
		b.tell(bundle, slog.LevelInfo, BackendONNXRuntime, "the bundle is calibrated for it")
		return b.open(BackendONNXRuntime)
	}
	backend, err := b.open(BackendTensorRT)
	switch {
	case err == nil:
		b.tell(bundle, slog.LevelInfo, BackendTensorRT, "TensorRT and a GPU are here")
		return backend, nil
	case forTensorRT && !forOthers:
		return nil, fmt.Errorf("bundle %s is calibrated for %s: %w (without thresholds it runs with backend %s)", bundle.Manifest.Name, BackendTensorRT, err, BackendONNXRuntime)
	}
	// What is here and does not work should be mended; most boxes just have no GPU.
	level := slog.LevelWarn
	if tensorrt.Absent(err) {
		level = slog.LevelInfo
	}
	b.tell(bundle, level, BackendONNXRuntime, tensorrt.Missing(err))
	b.log.Debug("backend tensorrt cannot be used", "error", err)
	return b.open(BackendONNXRuntime)
}

func (b *backends) tell(bundle *engines.Bundle, level slog.Level, name, reason string) {
	if text := bundle.ModelDigest + name; !b.told[text] {
		b.told[text] = true
		b.log.Log(context.Background(), level, "backend "+name+" chosen", "bundle", bundle.Manifest.Name, "reason", reason)
	}
}

// fault says that a backend's GPU hangs or is lost; nil: all work.
func (b *backends) fault() error {
	var errs []error
	for _, each := range b.all() {
		if gpu, can := each.(interface{ Fault() error }); can {
			errs = append(errs, gpu.Fault())
		}
	}
	return errors.Join(errs...)
}

func (b *backends) close() error {
	var errs []error
	for _, each := range b.all() {
		errs = append(errs, each.Close())
	}
	return errors.Join(errs...)
}

// IsMachine says that an error is the machine's and not one of the user's files or words:
// a driver, a GPU or a library that is missing or does not work, memory, the engines'
// folder, a full disk.
func IsMachine(err error) bool {
	return tensorrt.IsMachine(err) || onnxruntime.IsMachine(err) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// machineFault makes an error of the machine a [FaultError]: the daemon is started again,
// as the driver may come later than it.
func machineFault(err error) error {
	if IsMachine(err) {
		return FaultError{err}
	}
	return err
}
