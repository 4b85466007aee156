// Package tensorrt runs a bundle's networks on TensorRT, on an NVIDIA GPU, in
// FP16. Engines are built from the bundle's graphs once for each GPU and version of
// TensorRT and kept in a [Cache].
package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"gladd/engines"
	"gladd/trt"
	"gladd/trt/cuda"
)

// Name is the backend's name in configurations, calibrations and verdicts.
const Name = "tensorrt"

// The precisions that engines are built in. FP16 is what the backend is for; FP32
// is there to compare with.
const (
	FP16 = "fp16"
	FP32 = "fp32"
)

// Options of the backend. The zero value looks for the libraries in the usual
// places.
type Options struct {
	Library     string // path of libnvinfer or libtensorrt_rtx; empty: looked for
	CUDALibrary string // path of the driver's libcuda.so.1; empty: looked for
	CacheDir    string // where built engines are kept
	Precision   string // FP16 | FP32; empty: FP16
	// Timeout after which a call of the GPU counts as hung; 0: 30 s.
	Timeout time.Duration
	// OnHung is told of a call that hangs.
	OnHung func(error)
	// OnRecovered is told when that call returned after all.
	OnRecovered func()
	// OnLost is told once when the GPU is lost for this process; nil: nobody is.
	OnLost func(error)
	// Progress is called while engines are built; nil: nobody is told.
	Progress func(Progress)
	// PlainLaunches calls the engines one by one instead of as CUDA graphs.
	PlainLaunches bool
	Log           *slog.Logger
}

// Backend is TensorRT on the first GPU.
type Backend struct {
	options Options
	log     *slog.Logger
	cache   *Cache

	driver  *cuda.Driver
	device  *cuda.Device
	library *trt.Library

	// turn is held by whoever uses what is below, or the GPU. A channel, so that
	// waiting for it ends with the context.
	turn     chan struct{}
	runtime  *trt.Runtime // nil: lost with the GPU, made anew by working
	networks map[*Networks]struct{}
	scratch  *cuda.Memory // see growScratch; nil: no networks are loaded
	builds   sync.RWMutex // read by builds, held by what ends the GPU's context
	unkept   unkept
	claimed  *cuda.Claim // nil: there is none
	loss     error       // after which the runtime was not made anew yet; nil: it was
	closed   bool

	gone atomic.Pointer[LostError] // nil: the GPU is of use
}

var _ engines.Backend = (*Backend)(nil)

// GPUError says that there is no GPU that TensorRT could run on.
type GPUError struct{ Err error }

func (e *GPUError) Error() string {
	return fmt.Sprintf("backend %s: %v; or use backend onnxruntime", Name, e.Err)
}

func (e *GPUError) Unwrap() error { return e.Err }

// Missing says in a few words what [New] lacked, where that is what most boxes
// without a GPU lack; otherwise the whole error.
func Missing(err error) string {
	var old *cuda.DriverTooOldError
	var driver *cuda.LibraryError
	var gpu *cuda.NoDeviceError
	var library *trt.LibraryError
	switch {
	case errors.As(err, &old):
		return err.Error()
	case errors.As(err, &gpu):
		return "no NVIDIA GPU is here"
	case errors.As(err, &driver):
		return "no NVIDIA driver is here"
	case errors.As(err, &library) && !trt.Built:
		return "this gladd was built without TensorRT"
	case errors.As(err, &library) && library.Err == nil:
		return "no TensorRT is here"
	}
	return err.Error()
}

// Absent says that an error is of a driver, a GPU or a library that is not here at all,
// unlike one that is here and cannot be used.
func Absent(err error) bool {
	var driver *cuda.LibraryError
	var gpu *cuda.NoDeviceError
	var library *trt.LibraryError
	return errors.As(err, &driver) && driver.Absent() || errors.As(err, &gpu) || errors.As(err, &library) && (library.Err == nil || !trt.Built)
}

// IsMachine says that an error is the machine's and may be gone at the next try or after
// something was installed, unlike one of a bundle or a configuration.
func IsMachine(err error) bool {
	var gpu *GPUError
	var library *trt.LibraryError
	var driver *DriverError
	var capability *CapabilityError
	var call *cuda.Error
	var memory *cuda.OutOfMemoryError
	var hung *cuda.HungError
	var lost *cuda.LostError
	var gone *LostError
	var build *trt.BuildError
	var plan *trt.PlanError
	var cache *CacheError
	return errors.As(err, &gpu) || errors.As(err, &library) && trt.Built || errors.As(err, &driver) || errors.As(err, &capability) || trt.OfCUDA(err) ||
		errors.As(err, &call) || errors.As(err, &memory) || errors.As(err, &hung) || errors.As(err, &lost) || errors.As(err, &gone) || errors.As(err, &cache) ||
		errors.As(err, &build) && build.Reason == trt.ReasonMemory || errors.As(err, &plan) && plan.Reason == trt.ReasonMemory
}

// New opens the driver, the GPU and TensorRT. Its errors are a [GPUError], a
// [trt.LibraryError] or a [CapabilityError].
func New(options Options) (*Backend, error) {
	if options.Precision == "" {
		options.Precision = FP16
	}
	if options.Precision != FP16 && options.Precision != FP32 {
		return nil, fmt.Errorf("backend %s: precision: expected %s or %s, found %q", Name, FP16, FP32, options.Precision)
	}
	log := options.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Backend{options: options, log: log, cache: NewCache(options.CacheDir), turn: make(chan struct{}, 1), networks: map[*Networks]struct{}{}}
	if err := b.open(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	b.claimed = b.device.Properties().Announce(log)
	b.cache.warnIfOpen(log)
	log.Debug("TensorRT opened", "version", b.library.Version().String(), "library", b.library.Path(), "gpu", b.device.Properties().Name, "cuda", b.driver.Version().String())
	return b, nil
}

func (b *Backend) open() (err error) {
	// The GPU first: without one, some versions of TensorRT crash.
	if b.driver, err = cuda.Open(cuda.Options{Library: b.options.CUDALibrary, Log: b.log}); err != nil {
		return &GPUError{err}
	}
	gpus, err := b.driver.Devices()
	if err != nil {
		return &GPUError{err}
	}
	if b.library, err = trt.Open(trt.Options{Library: b.options.Library, SitePackages: sitePackages(), Log: b.log}); err != nil {
		return err
	}
	if err := suits(b.library, gpus[0]); err != nil {
		return err
	}
	b.device, err = b.driver.OpenDevice(0, cuda.DeviceOptions{HangTimeout: b.options.Timeout, OnHung: b.options.OnHung, OnRecovered: b.options.OnRecovered, Log: b.log})
	if err != nil {
		return &GPUError{err}
	}
	return nil
}

// String names the library's version and place, and the GPU.
func (b *Backend) String() string {
	return fmt.Sprintf("%s (%s) on %s", b.library.Version(), b.library.Path(), b.device.Properties().Name)
}

// Cache is where the backend's engines are kept.
func (b *Backend) Cache() *Cache { return b.cache }

// Close frees the GPU. It may be called twice.
func (b *Backend) Close() error {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if b.closed {
		return nil
	}
	b.closed = true
	var errs []error
	for networks := range b.networks {
		errs = append(errs, networks.unload())
	}
	errs = append(errs, b.closeRuntime())
	if b.device != nil {
		errs = append(errs, b.device.Close())
	}
	if b.library != nil {
		errs = append(errs, b.library.Close())
	}
	if b.driver != nil {
		errs = append(errs, b.driver.Close())
	}
	return errors.Join(append(errs, b.claimed.Close())...)
}

// sitePackages are where pip installs TensorRT's packages for everybody, and where
// it does for the Python environment that gladd was started in.
func sitePackages() []string {
	folders := []string{"/usr/lib/python3/dist-packages", "/usr/local/lib/python3*/dist-packages", "/usr/local/lib/python3*/site-packages"}
	if environment := os.Getenv("VIRTUAL_ENV"); environment != "" {
		folders = append(folders, filepath.Join(environment, "lib", "python3*", "site-packages"))
	}
	return folders
}

// closeRuntime frees TensorRT's runtime, if there is one, where the GPU's context is.
func (b *Backend) closeRuntime() error {
	if b.runtime == nil {
		return nil
	}
	runtime := b.runtime
	b.runtime = nil
	return b.device.Do(context.Background(), "free TensorRT's runtime", func(*cuda.Thread) error { return runtime.Close() })
}

// Fault says that the GPU hangs or is lost; nil: it works.
func (b *Backend) Fault() error {
	if gone := b.gone.Load(); gone != nil {
		return gone
	}
	return errors.Join(b.device.Hung(), b.device.Lost())
}

// Open implements [engines.Backend]. Engines that the cache lacks are built first,
// which takes minutes.
func (b *Backend) Open(ctx context.Context, bundle *engines.Bundle) (engines.Networks, error) {
	refused := map[engines.GraphName]bool{}
	for {
		if _, err := b.make(ctx, bundle, making{}); err != nil {
			return nil, b.explain(err)
		}
		networks, err := b.openBuilt(ctx, bundle)
		// A plan that TensorRT refuses, though it was built for all that the key
		// says, as after an update of the driver, is built again, once.
		var plan *planRefusedError
		if !errors.As(err, &plan) || refused[plan.network] {
			return networks, b.explain(err)
		}
		refused[plan.network] = true
		b.log.Warn("TensorRT refuses an engine, which is built again", "network", string(plan.network), "error", plan.Err)
		if err := b.forget(ctx, plan.entry); err != nil {
			return nil, err
		}
	}
}

// openBuilt opens networks whose engines are in the cache.
func (b *Backend) openBuilt(ctx context.Context, bundle *engines.Bundle) (engines.Networks, error) {
	networks := &Networks{
		backend: b,
		bundle:  bundle,
		runtime: engines.Runtime{Backend: Name, Precision: b.options.Precision, Library: b.String()},
	}
	err := b.exclusively(ctx, func() error {
		b.networks[networks] = struct{}{}
		return networks.load(ctx)
	})
	if err != nil {
		return nil, errors.Join(err, networks.Close())
	}
	return networks, nil
}

// planRefusedError says that TensorRT cannot use a plan that is as it was built.
type planRefusedError struct {
	graph   engines.Graph
	network engines.GraphName
	entry   Entry
	Err     *trt.PlanError
}

func (e *planRefusedError) Error() string {
	return fmt.Sprintf("%s: engine of %s: %v", e.graph.Path, e.network, e.Err)
}

func (e *planRefusedError) Unwrap() error { return e.Err }

// exclusively runs a function while nobody else uses the GPU. It waits no longer
// than the context allows.
func (b *Backend) exclusively(ctx context.Context, run func() error) error {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.closed {
		return errClosed
	}
	return run()
}

// working makes sure that the GPU can be used: after an error that ended its
// context, everything on it is made anew, once: what fails then ends the GPU's use. The
// caller has the turn.
func (b *Backend) working(ctx context.Context) error {
	if gone := b.gone.Load(); gone != nil {
		return gone
	}
	if lost := b.device.Lost(); lost != nil {
		b.loss = lost
		b.log.Warn("GPU lost: its context and all engines are made anew", "error", lost)
		// Before the context ends: afterwards TensorRT would free what is gone.
		for networks := range b.networks {
			networks.loss = lost
			if err := networks.unload(); err != nil {
				b.log.Debug("freeing a lost engine failed, as expected", "error", err)
			}
		}
		if err := b.closeRuntime(); err != nil {
			b.log.Debug("freeing the lost runtime failed, as expected", "error", err)
		}
		// A build would lose its context in the middle.
		b.builds.Lock()
		err := b.device.Reset(ctx)
		b.builds.Unlock()
		if err != nil {
			return b.giveUp(fmt.Errorf("its context could not be made anew: %w; after %w", err, lost))
		}
	}
	if b.runtime != nil {
		return nil
	}
	err := b.device.Do(ctx, "make TensorRT's runtime", func(*cuda.Thread) (err error) {
		b.runtime, err = b.library.NewRuntime()
		return err
	})
	if err != nil && b.loss != nil {
		return b.giveUp(fmt.Errorf("TensorRT cannot begin anew: %w; after %w", err, b.loss))
	}
	if err == nil {
		b.loss = nil
	}
	return err
}

// Present says what a backend lacks here; nil: driver, GPU and TensorRT are here. Nothing
// is begun on the GPU.
func Present(library, cudaLibrary string) error {
	driver, err := cuda.Open(cuda.Options{Library: cudaLibrary})
	if err != nil {
		return err
	}
	defer driver.Close() //nolint:errcheck // it was only looked at
	gpus, err := driver.Devices()
	if err != nil {
		return err
	}
	found, err := trt.Open(trt.Options{Library: library, SitePackages: sitePackages()})
	if err != nil {
		return err
	}
	return errors.Join(suits(found, gpus[0]), found.Close())
}

// Found says what is here, for people: TensorRT's version and place and the GPU's
// driver, or what is wrong with them.
func Found(library, cudaLibrary string) (tensorRT, driver string) {
	opened, err := cuda.Open(cuda.Options{Library: cudaLibrary})
	switch {
	case err != nil:
		driver = err.Error()
	default:
		driver = fmt.Sprintf("CUDA %s (%s)", opened.Version(), opened.Library())
		devices, err := opened.Devices()
		for _, each := range devices {
			driver += fmt.Sprintf(", %s (%d.%d, %.1f GB)", each.Name, each.ComputeMajor, each.ComputeMinor, float64(each.TotalMemory)/1e9)
		}
		if err != nil {
			driver += ", " + err.Error()
		}
		opened.Close() //nolint:errcheck // it was only looked at
	}
	found, err := trt.Open(trt.Options{Library: library, SitePackages: sitePackages()})
	if err != nil {
		return err.Error(), driver
	}
	defer found.Close() //nolint:errcheck // it was only looked at
	return fmt.Sprintf("%s (%s)", found.Version(), found.Path()), driver
}
