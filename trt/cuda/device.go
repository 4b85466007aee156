package cuda

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Device is one GPU with its primary context, owned by one thread. Its methods
// may be called from any goroutine but must not be called on its own thread,
// save Properties, Live, Hung and Lost.
type Device struct {
	driver     *Driver
	native     *native
	properties Properties
	options    DeviceOptions
	log        *slog.Logger

	jobs      chan *job // unbuffered: one that was received runs
	closeOnce sync.Once
	closing   chan struct{}
	done      chan struct{} // closed once the thread has released the device
	closeErr  error         // what releasing gave; set before done is closed

	thread     atomic.Int64 // the operating system's number of the thread
	generation atomic.Int64 // counts resets

	mutex sync.Mutex
	hung  *HungError    // nil: it does not hang
	hangs chan struct{} // closed while it hangs
	lost  *LostError    // nil: the context works
	live  map[owned]struct{}
	heard chan struct{} // closed once the latest OnHung or OnRecovered returned; nil: there was none

	// Used on the thread only.
	handle    int     // CUdevice
	context   uintptr // CUcontext; 0: none is retained
	capturing *Stream // whose work is captured now; nil: none
}

// job is a function that is handed to the thread.
type job struct {
	what      string
	timeout   time.Duration // after which the device hangs
	run       func(*Thread) error
	done      chan struct{} // closed, under the device's mutex, once it returned
	err       error         // what it returned; set before done is closed
	abandoned bool          // nobody waits any more; guarded by the device's mutex
	started   time.Time
}

// OpenDevice starts the device's thread and retains its primary context there.
// The error is a [HungError] if that takes too long. The device is to be
// closed.
func (d *Driver) OpenDevice(ordinal int, options DeviceOptions) (*Device, error) {
	if options.HangTimeout < 0 {
		return nil, fmt.Errorf("CUDA device %d: hang timeout: expected a positive duration, or 0 for %v, found %v", ordinal, DefaultHangTimeout, options.HangTimeout)
	}
	if options.HangTimeout == 0 {
		options.HangTimeout = DefaultHangTimeout
	}
	log := options.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	properties, err := d.reserve(ordinal)
	if err != nil {
		return nil, err
	}
	device := &Device{
		driver: d, native: d.native, properties: properties, options: options, log: log,
		jobs: make(chan *job), closing: make(chan struct{}), done: make(chan struct{}),
		hangs: make(chan struct{}), live: map[owned]struct{}{},
	}
	go device.serve()
	if err := device.Do(context.Background(), "retain the context", device.retain); err != nil {
		// One that hangs is released once it comes back; its error is told already.
		closing := device.Close()
		var hung *HungError
		if errors.As(closing, &hung) {
			closing = nil
		}
		return nil, errors.Join(err, closing)
	}
	return device, nil
}

// Properties describes the device.
func (d *Device) Properties() Properties { return d.properties }

// Do runs a function on the device's thread and returns its error. what names
// the function in errors and the log, for example "run encoder".
//
// ctx ends only the wait for the thread. A function that runs is waited for;
// once it takes longer than DeviceOptions.HangTimeout, Do returns a
// [HungError], and so does every other Do at once, until the function returns
// after all. Until [Device.Hung] gives nil, what the function uses is still in
// use. A panic comes back as a [PanicError].
func (d *Device) Do(ctx context.Context, what string, run func(*Thread) error) error {
	return d.DoWithin(ctx, what, d.options.HangTimeout, run)
}

// DoWithin is [Device.Do] with a time of its own after which the device counts
// as hung, for work that is known to be long: to build an engine takes minutes.
// Meanwhile every other Do waits.
func (d *Device) DoWithin(ctx context.Context, what string, timeout time.Duration, run func(*Thread) error) error {
	if timeout <= 0 {
		return d.wrap(what, fmt.Errorf("hang timeout: expected a positive duration, found %v", timeout))
	}
	if d.onThread() {
		return d.wrap(what, ErrInsideDo)
	}
	handed := &job{what: what, timeout: timeout, run: run, done: make(chan struct{})}
	if err := d.hand(ctx, handed); err != nil {
		return err
	}
	return d.await(handed)
}

func (d *Device) wrap(what string, err error) error {
	return fmt.Errorf("CUDA device %d: %s: %w", d.properties.Ordinal, what, err)
}

// hand waits until the thread takes the job.
func (d *Device) hand(ctx context.Context, handed *job) error {
	for {
		// Of several that are ready, select takes any: these come first.
		if err := ctx.Err(); err != nil {
			return d.wrap(handed.what, fmt.Errorf("waiting for the device's thread: %w", err))
		}
		hung, hangs := d.hanging()
		if hung != nil {
			return hung
		}
		select {
		case <-d.closing:
			return d.wrap(handed.what, fmt.Errorf("the device %w", ErrClosed))
		default:
		}
		select {
		case d.jobs <- handed:
			return nil
		case <-ctx.Done():
		case <-hangs:
		case <-d.closing:
		}
	}
}

func (d *Device) hanging() (*HungError, <-chan struct{}) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.hung, d.hangs
}

// await waits for a job that runs.
func (d *Device) await(running *job) error {
	timer := time.NewTimer(running.timeout)
	defer timer.Stop()
	select {
	case <-running.done:
		return running.err
	case <-timer.C:
	}

	d.mutex.Lock()
	select {
	case <-running.done: // just in time
		d.mutex.Unlock()
		return running.err
	default:
	}
	hung := &HungError{Device: d.properties.Ordinal, What: running.what, After: running.timeout}
	running.abandoned = true
	d.hung = hung
	close(d.hangs)
	d.log.Error("GPU hangs", "device", d.properties.Ordinal, "error", hung)
	d.tell(func() {
		if d.options.OnHung != nil {
			d.options.OnHung(hung)
		}
	})
	d.mutex.Unlock()
	return hung
}

// tell runs the function once those before have returned. It is called with
// the mutex, which gives them their order.
func (d *Device) tell(run func()) {
	before, done := d.heard, make(chan struct{})
	d.heard = done
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		run()
	}()
}

// finish tells that a job has returned, and ends the hang if it caused one.
func (d *Device) finish(finished *job) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	close(finished.done)
	if !finished.abandoned {
		return
	}
	log := d.log.With("device", d.properties.Ordinal, "what", finished.what, "took", time.Since(finished.started).Round(time.Millisecond))
	if finished.err != nil {
		log.Warn("GPU answers again", "error", finished.err) // nobody else hears of the error
	} else {
		log.Info("GPU answers again")
	}
	d.hung = nil
	d.hangs = make(chan struct{})
	d.tell(func() {
		if d.options.OnRecovered != nil {
			d.options.OnRecovered()
		}
	})
}

// Hung is the [HungError] while a function does not come back; nil: none.
func (d *Device) Hung() error {
	if hung, _ := d.hanging(); hung != nil {
		return hung
	}
	return nil
}

// Close waits for the function that runs, frees what is left and releases the
// context. What was left is a [LeakError]. A device that hangs is not waited
// for: the error is a [HungError], and the device is released once it comes
// back. Close may be called twice.
func (d *Device) Close() error {
	if d.onThread() {
		return d.wrap("close", ErrInsideDo)
	}
	d.closeOnce.Do(func() { close(d.closing) })
	timer := time.NewTimer(d.options.HangTimeout)
	defer timer.Stop()
	for {
		select {
		case <-d.done:
			return d.closeErr
		default:
		}
		hung, hangs := d.hanging()
		if hung != nil {
			return hung
		}
		select {
		case <-d.done:
		case <-hangs:
		case <-timer.C:
			return &HungError{Device: d.properties.Ordinal, What: "close", After: d.options.HangTimeout}
		}
	}
}
