package cuda

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Misuse of the package, told instead of a crash.
var (
	// ErrOutsideDo: a call that needs the device's thread was made elsewhere.
	ErrOutsideDo = errors.New("called outside the device's thread; call it in a function given to Device.Do")
	// ErrInsideDo: a call that waits for the device's thread was made on it.
	ErrInsideDo = errors.New("called on the device's own thread, where it would wait for itself; call it outside Device.Do")
	// ErrClosed: the device or the driver was closed.
	ErrClosed = errors.New("is closed; open it again")
	// ErrFreed: what is used was freed.
	ErrFreed = errors.New("was freed; make a new one")
	// ErrStale: what is used was made before the device was reset.
	ErrStale = errors.New("was made before the device was reset; make a new one")
)

// LibraryError says that the CUDA driver's library was not found or cannot be
// used.
type LibraryError struct {
	Tried   []string // the libraries, in the order in which they were tried
	Library string   // that was named, or the first that is there and cannot be used; empty: none is
	Err     error    // of it, else the loader's first
}

func (e *LibraryError) Error() string {
	var old *DriverTooOldError
	if errors.As(e.Err, &old) { // which has advice of its own
		return "CUDA driver library " + old.Error()
	}
	where := ""
	if runtime.GOARCH == "arm64" {
		where = "on a Jetson the package nvidia-l4t-cuda, "
	}
	advice := fmt.Sprintf("install the NVIDIA driver, for CUDA %s or newer (%sin a container the NVIDIA Container Toolkit)", MinimumVersion, where)
	if e.Library == "" {
		return fmt.Sprintf("no NVIDIA driver: not found: %s; %s", strings.Join(e.Tried, ", "), advice)
	}
	return fmt.Sprintf("CUDA driver library %s: %v; %s", e.Library, e.Err, advice)
}

func (e *LibraryError) Unwrap() error { return e.Err }

// Absent reports whether no such library is here, unlike one that is here and cannot be
// used.
func (e *LibraryError) Absent() bool {
	for _, path := range e.Tried {
		if _, err := os.Stat(path); err == nil && strings.ContainsRune(path, '/') {
			return false
		}
	}
	var old *DriverTooOldError
	return !errors.As(e.Err, &old)
}

// DriverTooOldError says that the driver is older than gladd needs. It comes
// within a [LibraryError].
type DriverTooOldError struct {
	Library string
	Version Version // 0: the driver does not say
	Symbol  string  // that the library lacks; empty: none
}

func (e *DriverTooOldError) Error() string {
	found := fmt.Sprintf("found CUDA %s", e.Version)
	if e.Symbol != "" {
		found += " without " + e.Symbol
	}
	return fmt.Sprintf("%s: driver too old, expected CUDA %s or newer, %s; install a newer NVIDIA driver", e.Library, MinimumVersion, found)
}

// NoDeviceError says that the driver is there and shows no GPU.
type NoDeviceError struct {
	Err error // the driver's error; nil: it counted 0 devices
}

func (e *NoDeviceError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("no CUDA device: %v", e.Err)
	}
	return fmt.Sprintf("no CUDA device: expected 1 or more, found 0; %s", hint(codeNoDevice))
}

func (e *NoDeviceError) Unwrap() error { return e.Err }

// Error is a failed call of the driver.
type Error struct {
	Call string // its symbol, for example cuMemAlloc_v2
	Code int    // CUresult
	Name string // for example CUDA_ERROR_OUT_OF_MEMORY
	Text string // the driver's description
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s (%d)", e.Call, e.Name, e.Code)
	if e.Text != "" {
		text += ": " + e.Text
	}
	if hint := e.Hint(); hint != "" {
		text += "; " + hint
	}
	return text
}

// OutOfMemory reports whether the GPU's memory did not suffice.
func (e *Error) OutOfMemory() bool { return e.Code == codeOutOfMemory }

// Sticky reports whether the context is lost: every further call fails until
// [Device.Reset].
func (e *Error) Sticky() bool { return sticky(e.Code) }

// Hint says in plain words what to do; empty: nothing is known.
func (e *Error) Hint() string { return hint(e.Code) }

// OutOfMemoryError says what an allocation needed and what there was.
type OutOfMemoryError struct {
	Kind        string // "device memory" or "pinned memory"
	Requested   int    // bytes
	Free, Total uint64 // bytes of device memory after the failure; both 0: not known
	Err         error
}

func (e *OutOfMemoryError) Error() string {
	found := "the driver does not say what is free"
	if e.Total > 0 {
		found = fmt.Sprintf("%d of %d bytes of device memory are free", e.Free, e.Total)
	}
	return fmt.Sprintf("allocate %d bytes of %s: %s: %v", e.Requested, e.Kind, found, e.Err)
}

func (e *OutOfMemoryError) Unwrap() error { return e.Err }

// HungError says that a function did not come back from the device's thread.
type HungError struct {
	Device int
	What   string // as it was given to [Device.Do]
	After  time.Duration
}

func (e *HungError) Error() string {
	return fmt.Sprintf("CUDA device %d: %q has not returned after %v: the GPU or its driver hangs, or the work is too long; "+
		"see the kernel's log, and restart the box if it does not recover", e.Device, e.What, e.After)
}

// LostError says that the device's context was lost by an earlier error.
type LostError struct {
	Device int
	Err    error // the first error after which it was lost
}

func (e *LostError) Error() string {
	return fmt.Sprintf("CUDA device %d: the context is lost; reset the device: %v", e.Device, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// LeakError says what was not freed before [Device.Close]. Close has freed it.
type LeakError struct {
	Device int
	Live   Live
}

func (e *LeakError) Error() string {
	return fmt.Sprintf("CUDA device %d: closed with %s left, freed now; expected nothing: free what was made before Close", e.Device, e.Live)
}

// PanicError says that a function panicked on the device's thread, or ended
// its goroutine.
type PanicError struct {
	What  string // as it was given to [Device.Do]
	Value any    // of the panic; nil: runtime.Goexit was called
	Stack []byte // of the panic
}

func (e *PanicError) Error() string {
	if e.Value == nil {
		return fmt.Sprintf("%q called runtime.Goexit on the device's thread; return an error instead", e.What)
	}
	return fmt.Sprintf("%q panicked on the device's thread: %v\n%s", e.What, e.Value, e.Stack)
}

// Unwrap gives the panic's value where that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
