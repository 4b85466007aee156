package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"gladd/engines"
	"gladd/trt/cuda"
)

// LostError says that an error ended the GPU's context. NVIDIA promises an end of such
// errors for a new process only (CUDA's reference, cudaErrorIllegalAddress: "the process
// must be terminated and relaunched"), and ONNX Runtime has no way to begin anew within
// one: its provider keeps the context's objects until the process ends.
type LostError struct {
	GPU error // what the driver says
	Err error // of the call that found it; nil: a later one
}

func (e *LostError) Error() string {
	text := fmt.Sprintf("backend %s: the GPU is lost (%v), and ONNX Runtime cannot use it again in this process; start gladd again", NameCUDA, e.GPU)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *LostError) Unwrap() error { return e.GPU }

// IsMachine says that an error is the machine's and may be gone at the next start,
// unlike one of a bundle or a configuration.
func IsMachine(err error) bool {
	var lost *LostError
	var opening *CUDAError
	return errors.As(err, &lost) || errors.As(err, &opening) && opening.Machine
}

// gpu is the first GPU as its driver sees it: ONNX Runtime does not tell a lost one from
// other failures.
type gpu struct {
	driver *cuda.Driver // nil: it cannot be asked
	claim  *cuda.Claim
	onLost func(error) // nil: nobody is told
	log    *slog.Logger

	mutex sync.Mutex
	lost  *LostError // nil: it works
}

// openGPU finds the GPU. Where it cannot be, ONNX Runtime will say so, too.
func openGPU(options Options) *gpu {
	found := &gpu{onLost: options.OnLost, log: options.Log}
	driver, err := cuda.Open(cuda.Options{Library: options.CUDALibrary, Log: options.Log})
	if err == nil {
		found.driver = driver
		var devices []cuda.Properties
		if devices, err = driver.Devices(); err == nil {
			found.claim = devices[0].Announce(options.Log)
		}
	}
	if err != nil {
		options.Log.Debug("the GPU's driver cannot be asked", "error", err)
		if driver != nil {
			driver.Close() //nolint:errcheck // it is of no use
			found.driver = nil
		}
	}
	return found
}

func (g *gpu) close() error {
	if g == nil {
		return nil
	}
	err := g.claim.Close()
	if g.driver != nil {
		err = errors.Join(err, g.driver.Close())
	}
	return err
}

// fault is what ended the GPU's use; nil: it works, or there is none.
func (g *gpu) fault() error {
	if g == nil {
		return nil
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.lost == nil {
		return nil
	}
	return &LostError{GPU: g.lost.GPU}
}

// judge is what an error of a call means: a [LostError] where the GPU does not even do
// the least any more.
func (g *gpu) judge(err error) error {
	if g == nil || err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.lost != nil {
		return &LostError{GPU: g.lost.GPU, Err: err}
	}
	said := g.ask()
	var call *cuda.Error
	if said == nil || errors.As(said, &call) && call.OutOfMemory() {
		return err
	}
	g.lost = &LostError{GPU: said, Err: err}
	g.log.Error("GPU lost: this process cannot use it again", "error", said)
	if g.onLost != nil {
		g.onLost(g.lost)
	}
	return g.lost
}

// ask lets the driver do a little in the context that it has for this process, which is ONNX
// Runtime's; nil: it works, or it cannot be asked. The caller has the mutex.
func (g *gpu) ask() error {
	if g.driver == nil {
		return nil
	}
	device, err := g.driver.OpenDevice(0, cuda.DeviceOptions{Log: g.log})
	if err != nil {
		return err
	}
	err = device.Do(context.Background(), "look after the GPU", func(thread *cuda.Thread) error {
		stream, err := thread.NewStream()
		if err != nil {
			return err
		}
		return errors.Join(stream.Synchronize(), stream.Free())
	})
	return errors.Join(err, device.Close())
}

// left are sessions that are not freed. C has pointers to their pinned memory.
var left struct {
	sync.Mutex
	sessions []map[engines.GraphName]*session
}

// leave leaves sessions to the end of the process.
func leave(sessions map[engines.GraphName]*session) {
	left.Lock()
	defer left.Unlock()
	left.sessions = append(left.sessions, sessions)
}

// machine says whether networks could not be opened because of the machine: no driver and
// GPU are here yet, a library is missing, or the GPU's memory is full.
func (g *gpu) machine(err error) bool {
	for _, phrase := range []string{"out of memory", "Failed to allocate memory", "cannot open shared object file", "Failed to load library"} {
		if strings.Contains(err.Error(), phrase) {
			return true
		}
	}
	return g.driver == nil
}
