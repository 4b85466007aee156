//go:build linux && cgo

package cuda_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gladd/trt/cuda"
	"gladd/trt/cuda/cudatest"
)

func nothing(*cuda.Thread) error { return nil }

func TestOpenDevice(t *testing.T) {
	fake := cudatest.Library(t)
	fake.Set("device_count", 2)
	driver := openDriver(t, fake)
	for _, ordinal := range []int{-1, 2} {
		_, err := driver.OpenDevice(ordinal, cuda.DeviceOptions{})
		wantError(t, err, fmt.Sprintf("CUDA device %d: expected 0 to 1, for the driver shows 2", ordinal))
	}
	_, err := driver.OpenDevice(0, cuda.DeviceOptions{HangTimeout: -time.Second})
	wantError(t, err, "hang timeout: expected a positive duration, or 0 for 30s, found -1s")

	for symbol, code := range map[string]int{"cuDevicePrimaryCtxRetain": 46, "cuCtxSetCurrent": 201} {
		fake.Fail(symbol, code)
		_, err := driver.OpenDevice(0, cuda.DeviceOptions{})
		if found := as[*cuda.Error](t, err); found.Call != symbol || found.Code != code {
			t.Errorf("found %v", err)
		}
		if live := fake.Live(); len(live) > 0 {
			t.Errorf("%s: the fake has left %v", symbol, live)
		}
	}

	var devices []*cuda.Device
	for ordinal := range 2 { // after a failure, too
		device, err := driver.OpenDevice(ordinal, cuda.DeviceOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if device.Properties().Ordinal != ordinal || device.Properties().Name != "Fake Orin" {
			t.Errorf("found %+v", device.Properties())
		}
		devices = append(devices, device)
	}
	if err := errors.Join(devices[0].Close(), devices[1].Close()); err != nil {
		t.Error(err)
	}
	if live := fake.Live(); len(live) > 0 {
		t.Errorf("the fake has left %v", live)
	}
}

func TestOneThread(t *testing.T) {
	device := openDevice(t, cudatest.Library(t), cuda.DeviceOptions{})
	var group sync.WaitGroup
	running, calls := 0, 0 // without a lock: the race detector sees a second thread
	for range 20 {
		group.Go(func() {
			for range 20 {
				err := device.Do(t.Context(), "count", func(thread *cuda.Thread) error {
					running++
					defer func() { running-- }()
					calls++
					if running != 1 {
						return fmt.Errorf("%d functions run at once", running)
					}
					if thread.Device() != device {
						return errors.New("another device's thread")
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if calls != 400 {
		t.Errorf("want 400 calls, found %d", calls)
	}
}

func TestErrorsComeBackAsTheyAre(t *testing.T) {
	device := openDevice(t, cudatest.Library(t), cuda.DeviceOptions{})
	mine := errors.New("mine")
	if err := device.Do(t.Context(), "fail", func(*cuda.Thread) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("found %v", err)
	}
}

// The context ends the wait for the thread, and not what runs.
func TestContext(t *testing.T) {
	device := openDevice(t, cudatest.Library(t), cuda.DeviceOptions{})
	ended, end := context.WithCancel(t.Context())
	end()
	err := device.Do(ended, "too late", func(*cuda.Thread) error { t.Error("it ran"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("found %v", err)
	}
	wantError(t, err, "CUDA device 0: too late: waiting for the device's thread")

	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	err = device.Do(ctx, "run", func(*cuda.Thread) error {
		go func() { waiting <- device.Do(ctx, "wait", func(*cuda.Thread) error { t.Error("it ran"); return nil }) }()
		cancel()
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			return fmt.Errorf("want the other to be canceled, found %w", err)
		}
		return nil // this one goes on although its context ended
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCallsInsideDo(t *testing.T) {
	device := openDevice(t, cudatest.Library(t), cuda.DeviceOptions{})
	do(t, device, func(*cuda.Thread) error {
		for name, err := range map[string]error{
			"do":    device.Do(t.Context(), "inner", nothing),
			"reset": device.Reset(t.Context()),
			"close": device.Close(),
		} {
			if !errors.Is(err, cuda.ErrInsideDo) {
				t.Errorf("%s: want ErrInsideDo, found %v", name, err)
			}
		}
		return nil
	})
}

// everyCall makes every call that needs the thread.
func everyCall(thread *cuda.Thread, k *kit, event *cuda.Event, graph *cuda.Graph) map[string]error {
	errs := map[string]error{
		"copy to device": thread.CopyToDevice(k.memory, 0, k.pinned, 0, 1, k.stream),
		"copy to host":   thread.CopyToHost(k.pinned, 0, k.memory, 0, 1, k.stream),
		"copy on device": thread.CopyOnDevice(k.memory, 0, k.memory, 1, 1, k.stream),
		"fill":           thread.Fill(k.memory, 0, 0, 1, k.stream),
		"synchronize":    k.stream.Synchronize(),
		"record":         event.Record(k.stream),
		"wait":           event.Synchronize(),
		"launch":         graph.Launch(k.stream),
	}
	_, errs["query"] = k.stream.Query()
	_, errs["elapsed"] = event.ElapsedMilliseconds(event)
	captured, err := thread.Capture(k.stream, func() error { return nil })
	errs["capture"] = errors.Join(err, captured.Free())
	return errs
}

func makers(thread *cuda.Thread) map[string]error {
	errs := map[string]error{}
	_, errs["stream"] = thread.NewStream()
	_, errs["event"] = thread.NewEvent(true)
	_, errs["alloc"] = thread.Alloc(1)
	_, errs["alloc pinned"] = thread.AllocPinned(1)
	_, _, errs["memory info"] = thread.MemoryInfo()
	return errs
}

// A call outside of Do is an error, not a call without a context.
func TestCallsOutsideDo(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 1024)
	var kept *cuda.Thread
	var event *cuda.Event
	var graph *cuda.Graph
	do(t, device, func(thread *cuda.Thread) (err error) {
		kept = thread
		if event, err = thread.NewEvent(true); err != nil {
			return err
		}
		graph, err = thread.Capture(k.stream, func() error { return nil })
		return err
	})
	before := fake.Count("calls")
	errs := everyCall(kept, k, event, graph)
	for name, err := range makers(kept) {
		errs["make "+name] = err
	}
	for name, thing := range map[string]interface{ Free() error }{"stream": k.stream, "memory": k.memory, "pinned": k.pinned, "event": event, "graph": graph} {
		errs["free "+name] = thing.Free()
	}
	for name, err := range errs {
		if !errors.Is(err, cuda.ErrOutsideDo) {
			t.Errorf("%s: want ErrOutsideDo, found %v", name, err)
		}
	}
	if k.pinned.Bytes() != nil || k.pinned.Float32s() != nil || k.pinned.Int64s() != nil {
		t.Error("pinned memory is given outside of Do")
	}
	if after := fake.Count("calls"); after != before {
		t.Errorf("the driver was called %d times", after-before)
	}
	do(t, device, func(*cuda.Thread) error { return free(event, graph) })
	if live, want := device.Live(), (cuda.Live{Streams: 1, Memories: 1, MemoryBytes: 1024, Pinned: 1, PinnedBytes: 1024}); live != want {
		t.Errorf("want %v, found %v", want, live)
	}
}

func TestNilAndForeign(t *testing.T) {
	fake := cudatest.Library(t)
	fake.Set("device_count", 2)
	driver := openDriver(t, fake)
	var kits []*kit
	var devices []*cuda.Device
	for ordinal := range 2 {
		device, err := driver.OpenDevice(ordinal, cuda.DeviceOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := device.Close(); err != nil {
				t.Error(err)
			}
		})
		devices, kits = append(devices, device), append(kits, newKit(t, device, 256))
	}
	do(t, devices[0], func(thread *cuda.Thread) error {
		wantError(t, thread.Fill(nil, 0, 0, 1, kits[0].stream), "found nil")
		wantError(t, thread.CopyToDevice(kits[0].memory, 0, nil, 0, 1, kits[0].stream), "found nil")
		wantError(t, thread.Fill(kits[0].memory, 0, 0, 1, nil), "found nil")
		wantError(t, thread.Fill(kits[1].memory, 0, 0, 1, kits[0].stream), "the device memory is of device 1, expected one of this device")
		wantError(t, thread.CopyToHost(kits[0].pinned, 0, kits[0].memory, 0, 1, kits[1].stream), "the stream is of device 1")
		var none kit
		var event *cuda.Event
		var graph *cuda.Graph
		wantError(t, none.stream.Synchronize(), "found nil")
		wantError(t, event.Synchronize(), "found nil")
		wantError(t, event.Record(kits[0].stream), "found nil")
		wantError(t, graph.Launch(kits[0].stream), "found nil")
		_, err := none.stream.Query()
		wantError(t, err, "found nil")
		_, err = event.ElapsedMilliseconds(nil)
		wantError(t, err, "found nil")
		_, err = thread.Capture(nil, func() error { return nil })
		wantError(t, err, "found nil")
		if none.pinned.Bytes() != nil {
			t.Error("nil has bytes")
		}
		return free(none.stream, none.memory, none.pinned, event, graph)
	})
}

func TestPanic(t *testing.T) {
	cause := errors.New("cause")
	device := openDevice(t, cudatest.Library(t), cuda.DeviceOptions{})
	k := newKit(t, device, 256)
	for name, test := range map[string]struct {
		run  func(*cuda.Thread) error
		want string
	}{
		"text":    {func(*cuda.Thread) error { panic("oh") }, `"test" panicked on the device's thread: oh`},
		"error":   {func(*cuda.Thread) error { panic(cause) }, "cause"},
		"runtime": {func(*cuda.Thread) error { var none *kit; _ = none.stream; return nil }, "nil pointer dereference"},
		"goexit":  {func(*cuda.Thread) error { runtime.Goexit(); return nil }, `"test" called runtime.Goexit`},
		"goexit in a capture": {func(thread *cuda.Thread) error {
			_, err := thread.Capture(k.stream, func() error { runtime.Goexit(); return nil })
			return err
		}, "Goexit"},
		"panic in a capture": {func(thread *cuda.Thread) error {
			_, err := thread.Capture(k.stream, func() error { panic("oh") })
			return err
		}, "oh"},
	} {
		t.Run(name, func(t *testing.T) {
			err := device.Do(t.Context(), "test", test.run)
			found := as[*cuda.PanicError](t, err)
			wantError(t, err, test.want)
			if name == "error" && !errors.Is(err, cause) {
				t.Error("the panic's error is lost")
			}
			if name == "text" && !strings.Contains(string(found.Stack), "device_test.go") {
				t.Errorf("the stack does not lead here:\n%s", found.Stack)
			}
			// The thread and the context are of use as before.
			do(t, device, func(thread *cuda.Thread) error {
				return errors.Join(thread.Fill(k.memory, 0, 1, 256, k.stream), k.stream.Synchronize())
			})
		})
	}
}

func TestClose(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 256)
	do(t, device, func(*cuda.Thread) error { return free(k.stream, k.memory, k.pinned) })

	// Close waits for what runs.
	closed := make(chan error, 1)
	do(t, device, func(*cuda.Thread) error {
		go func() { closed <- device.Close() }()
		select {
		case err := <-closed:
			return fmt.Errorf("closed while a function runs: %w", err)
		default:
			return nil
		}
	})
	if err := errors.Join(<-closed, device.Close()); err != nil {
		t.Fatal(err)
	}
	if err := device.Do(t.Context(), "late", nothing); !errors.Is(err, cuda.ErrClosed) {
		t.Errorf("want ErrClosed, found %v", err)
	}
	if err := k.stream.Synchronize(); !errors.Is(err, cuda.ErrClosed) {
		t.Errorf("want ErrClosed, found %v", err)
	}
	if err := free(k.stream, k.memory, k.pinned); err != nil {
		t.Error(err)
	}
}

func TestCloseTellsWhatIsLeft(t *testing.T) {
	fake := cudatest.Library(t)
	device, err := openDriver(t, fake).OpenDevice(0, cuda.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	k := newKit(t, device, 1000)
	do(t, device, func(thread *cuda.Thread) error {
		_, failed := thread.NewEvent(false)
		_, captured := thread.Capture(k.stream, func() error { return thread.Fill(k.memory, 0, 1, 1000, k.stream) })
		return errors.Join(failed, captured, thread.Fill(k.memory, 0, 1, 1000, k.stream))
	})
	for range 2 {
		err = device.Close()
		leak := as[*cuda.LeakError](t, err)
		if want := (cuda.Live{Streams: 1, Events: 1, Graphs: 1, Memories: 1, MemoryBytes: 1000, Pinned: 1, PinnedBytes: 1000}); leak.Live != want {
			t.Errorf("want %v, found %v", want, leak.Live)
		}
		wantError(t, err, "CUDA device 0: closed with 1 stream, 1 event, 1 graph, 1 memory (1000 bytes), 1 pinned memory (1000 bytes) left, freed now")
	}
	if live := fake.Live(); len(live) > 0 {
		t.Errorf("the fake has left %v", live)
	}
	if live := device.Live(); live != (cuda.Live{}) {
		t.Errorf("the device has left %v", live)
	}
}

func TestErrorOfClose(t *testing.T) {
	fake := cudatest.Library(t)
	device, err := openDriver(t, fake).OpenDevice(0, cuda.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fake.Fail("cuDevicePrimaryCtxRelease_v2", 999)
	wantError(t, device.Close(), "CUDA device 0: close: cuDevicePrimaryCtxRelease_v2: unknown error (999)")
}
