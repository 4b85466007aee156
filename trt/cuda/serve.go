package cuda

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
)

// serve is the device's thread: it runs the jobs until Close.
func (d *Device) serve() {
	// Never unlocked, so that the thread, which has the context, ends with the
	// goroutine.
	runtime.LockOSThread()
	d.thread.Store(int64(currentThread()))
	if d.context != 0 { // a second thread, after Goexit ended the first
		if err := d.check("cuCtxSetCurrent", d.native.setCurrent(d.context)); err != nil {
			d.lose(err)
		}
	}
	for {
		select {
		case next := <-d.jobs:
			d.run(next)
		case <-d.closing:
			d.closeErr = d.release()
			d.driver.forget(d.properties.Ordinal)
			d.thread.Store(-1)
			close(d.done)
			return
		}
	}
}

func (d *Device) onThread() bool { return d.thread.Load() == int64(currentThread()) }

// run runs one job. Neither a panic nor runtime.Goexit, which a test's FailNow
// calls, ends the service.
func (d *Device) run(next *job) {
	next.started = time.Now()
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		if value != nil {
			next.err = &PanicError{What: next.what, Value: value, Stack: debug.Stack()}
			d.finish(next)
			return
		}
		next.err = &PanicError{What: next.what}
		d.thread.Store(-1)
		go d.serve()
		d.finish(next)
	}()
	next.err = next.run(&Thread{device: d})
	returned = true
	d.finish(next)
}

// check makes an error of a call's code, and remembers one after which the
// context is lost. It runs on the thread.
func (d *Device) check(call string, code int) error {
	err := d.driver.check(call, code)
	if err != nil && sticky(code) {
		d.lose(err)
	}
	return err
}

// lose remembers the error after which the context is of no more use.
func (d *Device) lose(err error) {
	d.mutex.Lock()
	first := d.lost == nil
	if first {
		d.lost = &LostError{Device: d.properties.Ordinal, Err: err}
	}
	d.mutex.Unlock()
	if first {
		d.log.Error("GPU's context is lost", "device", d.properties.Ordinal, "error", err)
	}
}

// Lost is the [LostError] after an error that only [Device.Reset] ends; nil:
// the context works. Functions still run while it is lost, so that they can
// free what other libraries hold; calls of this package then fail, and Free
// does nothing.
func (d *Device) Lost() error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.lost == nil {
		return nil
	}
	return d.lost
}

// retain makes the primary context the thread's.
func (d *Device) retain(*Thread) error {
	handle, code := d.native.device(d.properties.Ordinal)
	if err := d.driver.check("cuDeviceGet", code); err != nil {
		return d.wrap("open", err)
	}
	d.handle = handle
	context, code := d.native.retainContext(handle)
	if err := d.driver.check("cuDevicePrimaryCtxRetain", code); err != nil {
		return d.wrap("open", err)
	}
	d.context = context
	if err := d.driver.check("cuCtxSetCurrent", d.native.setCurrent(context)); err != nil {
		return d.wrap("open", err)
	}
	return nil
}

// Reset destroys all that is on the device and starts with a new context. It
// is for a context that is lost, see [Device.Lost], and works at any time.
// What was made before is of no more use: using it is [ErrStale], its Free does
// nothing, and slices of a [Pinned] must not be touched any more. Other
// libraries that use the device in this process must have freed theirs before.
//
// NVIDIA promises an end of most of these errors only for a new process. Reset
// therefore tries the new context, and its error says that the program must be
// started again.
func (d *Device) Reset(ctx context.Context) error {
	return d.Do(ctx, "reset the device", func(*Thread) error {
		d.mutex.Lock()
		clear(d.live)
		d.mutex.Unlock()
		d.generation.Add(1)
		d.capturing = nil

		// These repeat the old error where the context is lost; what counts is
		// whether the new one works.
		old := errors.Join(
			d.driver.check("cuCtxSetCurrent", d.native.setCurrent(0)),
			d.driver.check("cuDevicePrimaryCtxReset_v2", d.native.resetContext(d.handle)),
		)
		if d.context != 0 {
			d.context = 0
			// A reset does not release.
			old = errors.Join(old, d.driver.check("cuDevicePrimaryCtxRelease_v2", d.native.releaseContext(d.handle)))
		}
		err := d.retain(nil)
		if err == nil {
			err = d.try()
		}
		if err != nil {
			err = fmt.Errorf("CUDA device %d: it does not work after a reset; restart gladd, and the box if that does not help: %w",
				d.properties.Ordinal, errors.Join(err, old))
		}
		d.mutex.Lock()
		d.lost = nil
		d.mutex.Unlock()
		if err != nil {
			d.lose(err)
			return err
		}
		d.log.Info("GPU was reset", "device", d.properties.Ordinal)
		return nil
	})
}

// try lets the context do a little of everything.
func (d *Device) try() error {
	stream, code := d.native.createStream(streamNonBlocking)
	if err := d.driver.check("cuStreamCreate", code); err != nil {
		return err
	}
	address, code := d.native.allocate(addressAlignment)
	err := d.driver.check("cuMemAlloc_v2", code)
	if err == nil {
		err = errors.Join(
			d.driver.check("cuMemsetD8Async", d.native.fill(address, 0, addressAlignment, stream)),
			d.driver.check("cuStreamSynchronize", d.native.synchronizeStream(stream)),
			d.driver.check("cuMemFree_v2", d.native.free(address)),
		)
	}
	return errors.Join(err, d.driver.check("cuStreamDestroy_v2", d.native.destroyStream(stream)))
}

// release frees what is left and lets go of the context.
func (d *Device) release() error {
	if d.context == 0 {
		return nil
	}
	var err error
	lost := d.Lost() != nil
	if live := d.Live(); live != (Live{}) && !lost {
		err = errors.Join(&LeakError{Device: d.properties.Ordinal, Live: live}, d.freeAll())
	}
	d.generation.Add(1) // whatever somebody still has is stale
	released := errors.Join(
		d.driver.check("cuCtxSetCurrent", d.native.setCurrent(0)),
		d.driver.check("cuDevicePrimaryCtxRelease_v2", d.native.releaseContext(d.handle)),
	)
	d.context = 0
	if released != nil && !lost { // a lost context is told already
		err = errors.Join(err, d.wrap("close", released))
	}
	return err
}
