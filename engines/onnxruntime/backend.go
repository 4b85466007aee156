// Package onnxruntime runs a bundle's networks on ONNX Runtime, on its CPU or its
// CUDA provider. The shared library is found at run time.
package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
	"golang.org/x/sync/semaphore"

	"gladd/engines"
)

// The backend's names in configurations, calibrations and verdicts: on
// processors, and on a GPU.
const (
	Name     = "onnxruntime"
	NameCUDA = "onnxruntime-cuda"
)

// Precision of the backend's arithmetic. Weights that are stored as FP16 are
// widened.
const Precision = "fp32"

// maxThreads is more than any box has processors; every session makes as many
// threads as it is told to, until memory is full.
const maxThreads = 256

// Options of the backend.
type Options struct {
	// Library is the path of ONNX Runtime's shared library; empty: it is looked
	// for beside the program, then in the system.
	Library string
	// CUDA runs the networks on the first GPU, with the library's GPU build.
	CUDA bool
	// CUDALibrary is the path of the GPU driver's libcuda.so.1; empty: it is looked for.
	CUDALibrary string
	// OnLost is told once when the GPU is lost for this process; nil: nobody is.
	OnLost func(error)
	// Threads that one call may use; 0: as many as the process may run on.
	Threads int
	Log     *slog.Logger

	spin spinning
}

// spinning says when the threads of a session that wait for work do so in a
// loop.
//
// Five sessions are called in turn, each with threads of its own. Threads that
// go on spinning after their call take the processors from the session whose
// turn it is; threads that never do have to be woken for every operator of a
// graph. See docs/performance.md. Calls that spin must not run beside each other on
// the same processors; Backend.turn sees to that.
type spinning string

const (
	spinInCalls spinning = "in calls" // until the session's call returns
	spinNever   spinning = "never"
	spinOn      spinning = "on" // some time after the call, too: ONNX Runtime's default
)

// entries are the session options' configuration entries, named in
// onnxruntime_session_options_config_keys.h.
func (s spinning) entries() map[string]string {
	const allow, stop = "session.intra_op.allow_spinning", "session.force_spinning_stop"
	switch s {
	case spinNever:
		return map[string]string{allow: "0"}
	case spinOn:
		return map[string]string{allow: "1"}
	default:
		return map[string]string{allow: "1", stop: "1"}
	}
}

// Backend is ONNX Runtime.
type Backend struct {
	options Options
	intraOp int // threads of a call in ONNX Runtime's terms; 0: its default
	library string
	share   int64 // of the processors, that a call takes
	gpu     *gpu  // nil: the networks run on processors
	close   func() error
}

var _ engines.Backend = (*Backend)(nil)

// environment is ONNX Runtime's one environment per process, which the binding
// keeps in package variables.
var environment struct {
	sync.Mutex
	library string
	users   int
}

// New loads the library. Its errors are a [LibraryError].
func New(options Options) (*Backend, error) {
	if options.Threads < 0 || options.Threads > maxThreads {
		return nil, fmt.Errorf("ONNX Runtime threads: expected 0 (as many as there are processors) to %d, found %d", maxThreads, options.Threads)
	}
	intraOp := options.Threads
	if options.Threads == 0 {
		options.Threads = runtime.GOMAXPROCS(0)
		// All that there are: ONNX Runtime's own default then ties each thread to a
		// processor, which is quicker (docs/performance.md). Where the process
		// may not use all, a number says how many.
		if options.Threads != runtime.NumCPU() {
			intraOp = options.Threads
		}
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	find := findLibrary
	if options.CUDA {
		find = findCUDALibrary
	}
	library, err := find(options.Library)
	if err != nil {
		return nil, err
	}

	environment.Lock()
	defer environment.Unlock()
	if environment.users > 0 && environment.library != library {
		return nil, &LibraryError{Tried: []string{library}, Err: fmt.Errorf("this process runs %s already", environment.library)}
	}
	if environment.users == 0 {
		ort.SetSharedLibraryPath(library)
		// Every error comes back from the call that failed; on stderr it would
		// be said twice, and not as a log line.
		if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
			return nil, &LibraryError{Tried: []string{library}, Err: err}
		}
		environment.library = library
	}
	environment.users++
	share := int64(min(options.Threads, runtime.GOMAXPROCS(0)))
	backend := &Backend{options: options, intraOp: intraOp, library: library, share: share}
	if options.CUDA {
		backend.gpu = openGPU(options)
	}
	backend.close = sync.OnceValue(func() error {
		if backend.Fault() != nil { // what is left of ONNX Runtime's ends with the process
			return backend.gpu.close()
		}
		return errors.Join(releaseEnvironment(), backend.gpu.close())
	})
	options.Log.Debug("ONNX Runtime loaded", "library", library, "version", ort.GetVersion(), "threads", options.Threads)
	return backend, nil
}

func releaseEnvironment() error {
	environment.Lock()
	defer environment.Unlock()
	environment.users--
	if environment.users > 0 {
		return nil
	}
	return ort.DestroyEnvironment()
}

// String names the library's version and place.
func (b *Backend) String() string { return fmt.Sprintf("%s (%s)", ort.GetVersion(), b.library) }

// Close frees the environment. It may be called twice.
func (b *Backend) Close() error { return b.close() }

// Fault says that the GPU is lost; nil: it works, or none is used.
func (b *Backend) Fault() error { return b.gpu.fault() }

// processors of this process. Every call takes as many as it has threads.
var processors = semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))

// turn waits until the processors have room for one more call. The caller ends
// its turn by endTurn.
func (b *Backend) turn(ctx context.Context) error { return processors.Acquire(ctx, b.share) }

func (b *Backend) endTurn() { processors.Release(b.share) }

// Open implements [engines.Backend].
func (b *Backend) Open(ctx context.Context, bundle *engines.Bundle) (engines.Networks, error) {
	options, err := b.sessionOptions()
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime session options: %w", err)
	}
	defer options.Destroy()
	if large(bundle) {
		// Each session would keep the most that it ever used, all five together
		// more than a box has.
		if err := errors.Join(options.SetCpuMemArena(false), options.SetMemPattern(false)); err != nil {
			return nil, fmt.Errorf("ONNX Runtime session options: %w", err)
		}
	}
	name := Name
	if b.options.CUDA {
		name = NameCUDA
		if err := appendCUDA(options); err != nil {
			return nil, b.cannotOpen(err) //nolint:contextcheck // the driver is asked even if nobody waits any more
		}
	}
	networks := &Networks{
		backend:  b,
		manifest: bundle.Manifest,
		runtime: engines.Runtime{
			Backend:   name,
			Precision: Precision,
			Library:   "ONNX Runtime " + b.String(),
		},
		sessions: map[engines.GraphName]*session{},
	}
	for _, name := range engines.GraphNames {
		opened, err := b.openSession(ctx, bundle, name, options)
		if err != nil {
			if b.options.CUDA {
				err = b.cannotOpen(err) //nolint:contextcheck // as above
			}
			return nil, errors.Join(err, networks.Close())
		}
		networks.sessions[name] = opened
	}
	return networks, nil
}

// cannotOpen says why networks cannot be opened on the GPU.
func (b *Backend) cannotOpen(err error) error {
	if ended := b.gpu.judge(err); b.Fault() != nil {
		return ended
	}
	return &CUDAError{Library: b.library, Err: err, Machine: b.gpu.machine(err)}
}

// openSession loads a graph and runs it, in its turn: a model is loaded while
// another inspects.
func (b *Backend) openSession(ctx context.Context, bundle *engines.Bundle, name engines.GraphName, options *ort.SessionOptions) (*session, error) {
	if err := b.turn(ctx); err != nil {
		return nil, err
	}
	defer b.endTurn()
	return openSession(bundle, name, options)
}

func (b *Backend) sessionOptions() (options *ort.SessionOptions, err error) {
	options, err = ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			options.Destroy()
		}
	}()
	for key, value := range b.options.spin.entries() {
		if err := options.AddSessionConfigEntry(key, value); err != nil {
			return options, err
		}
	}
	return options, errors.Join(
		options.SetIntraOpNumThreads(b.intraOp),
		options.SetInterOpNumThreads(1),
		options.SetGraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll),
	)
}
