//go:build linux && cgo

package cuda_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"gladd/trt/cuda"
	"gladd/trt/cuda/cudatest"
)

// whole is a device with one of each kind on it.
type whole struct {
	*kit
	event *cuda.Event
	graph *cuda.Graph
}

func newWhole(t *testing.T, device *cuda.Device) whole {
	t.Helper()
	made := whole{kit: newKit(t, device, 1024)}
	do(t, device, func(thread *cuda.Thread) (err error) {
		if made.event, err = thread.NewEvent(true); err != nil {
			return err
		}
		made.graph, err = thread.Capture(made.stream, func() error { return thread.Fill(made.memory, 0, 1, 1, made.stream) })
		return errors.Join(err, made.event.Record(made.stream))
	})
	return made
}

func (w whole) free() error { return free(w.event, w.graph, w.stream, w.memory, w.pinned) }

func TestStickyErrorAndReset(t *testing.T) {
	fake := cudatest.Library(t)
	var log logText
	device := openDevice(t, fake, cuda.DeviceOptions{Log: log.logger()})
	old := newWhole(t, device)
	if err := device.Lost(); err != nil {
		t.Fatal(err)
	}

	// An error of the work is told by the call that waits for it.
	fake.Fail("cuStreamSynchronize", 700)
	err := device.Do(t.Context(), "run", func(*cuda.Thread) error { return old.stream.Synchronize() })
	if failed := as[*cuda.Error](t, err); !failed.Sticky() {
		t.Errorf("found %v", failed)
	}
	wantError(t, err, "synchronize a stream: cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS (700): an illegal memory access was encountered; work on the GPU failed and its context is lost")
	if first := as[*cuda.LostError](t, device.Lost()); !errors.Is(err, first.Err) || first.Device != 0 {
		t.Errorf("want it lost by the first error, found %v", first)
	}

	// Functions run, so that other libraries can free what they have, but
	// nothing of the device is used.
	before := fake.Count("calls")
	do(t, device, func(thread *cuda.Thread) error {
		errs := everyCall(thread, old.kit, old.event, old.graph)
		for name, err := range makers(thread) {
			errs["make "+name] = err
		}
		for name, err := range errs {
			lost := as[*cuda.LostError](t, err)
			if !errors.Is(lost, err) && !strings.Contains(err.Error(), "the context is lost; reset the device: cuStreamSynchronize") {
				t.Errorf("%s: found %v", name, err)
			}
		}
		if old.pinned.Bytes() != nil {
			t.Error("memory of a lost context is given")
		}
		return old.event.Free()
	})
	if after := fake.Count("calls"); after != before {
		t.Errorf("the driver was called %d times", after-before)
	}

	if err := device.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := device.Lost(); err != nil {
		t.Errorf("it was reset: %v", err)
	}
	if live := device.Live(); live != (cuda.Live{}) {
		t.Errorf("found %v", live)
	}
	if retained := fake.Count("retained"); retained != 1 {
		t.Errorf("want the context retained once, found %d", retained)
	}

	// All that is old is refused, and freeing it does nothing.
	before = fake.Count("calls")
	do(t, device, func(thread *cuda.Thread) error {
		for name, err := range everyCall(thread, old.kit, old.event, old.graph) {
			if !errors.Is(err, cuda.ErrStale) {
				t.Errorf("%s: want ErrStale, found %v", name, err)
			}
		}
		if old.pinned.Bytes() != nil {
			t.Error("memory that is gone is given")
		}
		return old.free()
	})
	if err := old.free(); err != nil {
		t.Errorf("freed outside of Do: %v", err)
	}
	if after := fake.Count("calls"); after != before {
		t.Errorf("the driver was called %d times", after-before)
	}

	fresh := newWhole(t, device)
	do(t, device, func(thread *cuda.Thread) error {
		for name, err := range everyCall(thread, fresh.kit, fresh.event, fresh.graph) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		return fresh.free()
	})
	if text := log.String(); strings.Count(text, `msg="GPU's context is lost"`) != 1 || strings.Count(text, "GPU was reset") != 1 {
		t.Errorf("the loss and the reset are told once each:\n%s", text)
	}
}

// Work that used memory after it was freed is found by the next wait.
func TestWorkOnFreedMemory(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 256)
	err := device.Do(t.Context(), "run", func(thread *cuda.Thread) error {
		graph, err := thread.Capture(k.stream, func() error { return thread.Fill(k.memory, 0, 1, 256, k.stream) })
		if err != nil {
			return err
		}
		return errors.Join(k.memory.Free(), graph.Launch(k.stream), k.stream.Synchronize(), graph.Free())
	})
	if failed := as[*cuda.Error](t, err); failed.Code != 700 || failed.Call != "cuStreamSynchronize" {
		t.Errorf("found %v", failed)
	}
	if err := device.Reset(t.Context()); err != nil {
		t.Error(err)
	}
}

// A reset whose context does not work says so and changes nothing of that; a
// later one may help.
func TestResetThatDoesNotHelp(t *testing.T) {
	for name, test := range map[string]struct {
		fail string
		code int
	}{
		"retain":      {"cuDevicePrimaryCtxRetain", 719},
		"current":     {"cuCtxSetCurrent", 201},
		"stream":      {"cuStreamCreate", 700},
		"memory":      {"cuMemAlloc_v2", 2},
		"fill":        {"cuMemsetD8Async", 999},
		"synchronize": {"cuStreamSynchronize", 702},
	} {
		t.Run(name, func(t *testing.T) {
			fake := cudatest.Library(t)
			device := openDevice(t, fake, cuda.DeviceOptions{})
			k := newKit(t, device, 256)
			fake.Fail("cuStreamSynchronize", 700)
			if err := device.Do(t.Context(), "run", func(*cuda.Thread) error { return k.stream.Synchronize() }); err == nil {
				t.Fatal("want an error")
			}
			fake.FailAfter(test.fail, test.code, 0, cudatest.Always)
			err := device.Reset(t.Context())
			wantError(t, err, "CUDA device 0: it does not work after a reset; restart gladd", test.fail)
			wantAs[*cuda.LostError](t, device.Lost())
			fake.FailAfter(test.fail, 0, 0, cudatest.Never)
			if err := device.Reset(t.Context()); err != nil {
				t.Errorf("a later reset: %v", err)
			}
			if err := device.Lost(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What counts is whether the new context works: a driver repeats the old error
// while the old one is taken down.
func TestResetThatRepeatsTheOldError(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	for _, symbol := range []string{"cuCtxSetCurrent", "cuDevicePrimaryCtxReset_v2"} {
		fake.Fail(symbol, 700)
	}
	if err := device.Reset(t.Context()); err != nil {
		t.Error(err)
	}
	do(t, device, func(thread *cuda.Thread) error {
		stream, err := thread.NewStream()
		return errors.Join(err, stream.Free())
	})
}

// A device can be reset without need, and waits for its turn as all do.
func TestResetOfAWorkingDevice(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	old := newWhole(t, device)
	if err := device.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if live := fake.Live(); len(live) != 1 || live["retained"] != 1 {
		t.Errorf("want nothing but the context, found %v", live)
	}
	do(t, device, func(*cuda.Thread) error {
		if err := old.stream.Synchronize(); !errors.Is(err, cuda.ErrStale) {
			t.Errorf("found %v", err)
		}
		return nil
	})
	ended, end := context.WithCancel(t.Context())
	end()
	if err := device.Reset(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("found %v", err)
	}
}

// A lost device is closed without a word: what there is to say was said.
func TestCloseOfALostDevice(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 256)
	fake.Fail("cuStreamSynchronize", 719)
	if err := device.Do(t.Context(), "run", func(*cuda.Thread) error { return k.stream.Synchronize() }); err == nil {
		t.Fatal("want an error")
	}
	if err := device.Close(); err != nil {
		t.Error(err)
	}
}
