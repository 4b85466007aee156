//go:build linux && cgo

package cuda_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"gladd/trt/cuda"
	"gladd/trt/cuda/cudatest"
)

func TestCopies(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 4096)
	do(t, device, func(thread *cuda.Thread) error {
		if k.memory.Address()%256 != 0 || !fake.Valid(k.memory.Address(), 4096) || fake.Valid(k.memory.Address(), 4097) {
			t.Errorf("address %#x is not one of 4096 bytes, aligned to 256", k.memory.Address())
		}
		if k.memory.Size() != 4096 || k.pinned.Size() != 4096 || len(k.pinned.Bytes()) != 4096 || len(k.pinned.Float32s()) != 1024 || len(k.pinned.Int64s()) != 512 {
			t.Errorf("found sizes %d and %d", k.memory.Size(), k.pinned.Size())
		}
		other, err := thread.Alloc(100)
		if err != nil {
			return err
		}
		k.pinned.Float32s()[3] = 1.5
		k.pinned.Int64s()[100] = math.MinInt64
		err = errors.Join(
			thread.Fill(k.memory, 0, 0x77, 4096, k.stream),
			thread.CopyToDevice(k.memory, 0, k.pinned, 12, 4, k.stream),
			thread.CopyToDevice(k.memory, 4088, k.pinned, 800, 8, k.stream),
			thread.CopyOnDevice(other, 96, k.memory, 0, 4, k.stream),
			thread.CopyOnDevice(k.memory, 1000, other, 96, 4, k.stream),
			thread.CopyOnDevice(k.memory, 2000, k.memory, 4088, 8, k.stream), // within one
			k.stream.Synchronize(),
		)
		if err != nil {
			return err
		}
		clear(k.pinned.Bytes())
		if err := thread.CopyToHost(k.pinned, 0, k.memory, 0, 4096, k.stream); err != nil {
			return err
		}
		if k.pinned.Float32s()[0] == 1.5 {
			t.Error("the fake copied before the stream was synchronized")
		}
		if err := k.stream.Synchronize(); err != nil {
			return err
		}
		floats, ints, all := k.pinned.Float32s(), k.pinned.Int64s(), k.pinned.Bytes()
		if floats[0] != 1.5 || floats[250] != 1.5 || ints[511] != math.MinInt64 || ints[250] != math.MinInt64 || all[4] != 0x77 || all[999] != 0x77 {
			t.Errorf("found %v %v %v %v", floats[0], floats[250], ints[511], ints[250])
		}
		return other.Free()
	})
}

func TestPinnedOfFewBytes(t *testing.T) {
	device := openDevice(t, cudatest.Library(t), cuda.DeviceOptions{})
	do(t, device, func(thread *cuda.Thread) error {
		pinned, err := thread.AllocPinned(7)
		if err != nil {
			return err
		}
		if len(pinned.Bytes()) != 7 || len(pinned.Float32s()) != 1 || pinned.Int64s() != nil {
			t.Errorf("found %d bytes, %d float32, %d int64", len(pinned.Bytes()), len(pinned.Float32s()), len(pinned.Int64s()))
		}
		err = pinned.Free()
		if pinned.Bytes() != nil {
			t.Error("freed memory is given")
		}
		return err
	})
}

// No copy reaches outside of its memories.
func TestBounds(t *testing.T) {
	const size = 1000
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, size)
	for name, test := range map[string]struct {
		to, from, bytes int
		want            string
	}{
		"all":                {0, 0, size, ""},
		"last":               {size - 1, size - 1, 1, ""},
		"no bytes":           {0, 0, 0, "expected 1 byte or more, found 0"},
		"negative bytes":     {0, 0, -1, "found -1"},
		"too many":           {0, 0, size + 1, "1001 bytes from offset 0 do not lie in its 1000 bytes"},
		"target beyond":      {1, 0, size, "target: 1000 bytes from offset 1"},
		"source beyond":      {0, 1, size, "source: 1000 bytes from offset 1"},
		"target at the end":  {size, 0, 1, "target"},
		"source at the end":  {0, size, 1, "source"},
		"target negative":    {-1, 0, 1, "target: 1 bytes from offset -1"},
		"source negative":    {0, -1, 1, "source: 1 bytes from offset -1"},
		"sum overflows":      {size - 1, 0, math.MaxInt, "target"},
		"offset overflows":   {math.MaxInt, 0, math.MaxInt, "target"},
		"offset of all bits": {0, math.MinInt, 1, "source"},
	} {
		t.Run(name, func(t *testing.T) {
			before := fake.Count("calls")
			do(t, device, func(thread *cuda.Thread) error {
				other, err := thread.Alloc(size)
				if err != nil {
					return err
				}
				errs := map[string]error{
					"to device": thread.CopyToDevice(k.memory, test.to, k.pinned, test.from, test.bytes, k.stream),
					"to host":   thread.CopyToHost(k.pinned, test.to, k.memory, test.from, test.bytes, k.stream),
					"on device": thread.CopyOnDevice(other, test.to, k.memory, test.from, test.bytes, k.stream),
				}
				if test.from == 0 {
					errs["fill"] = thread.Fill(k.memory, test.to, 1, test.bytes, k.stream)
				}
				if test.want != "" && fake.Count("calls") != before+1 { // Alloc
					t.Error("the driver was called")
				}
				for call, err := range errs {
					if test.want == "" && err != nil {
						t.Errorf("%s: %v", call, err)
					}
					if test.want != "" {
						wantError(t, err, test.want)
					}
				}
				return errors.Join(k.stream.Synchronize(), other.Free())
			})
		})
	}
}

func TestOverlap(t *testing.T) {
	device := openDevice(t, cudatest.Library(t), cuda.DeviceOptions{})
	k := newKit(t, device, 100)
	do(t, device, func(thread *cuda.Thread) error {
		for _, places := range [][2]int{{0, 0}, {0, 9}, {9, 0}} {
			wantError(t, thread.CopyOnDevice(k.memory, places[0], k.memory, places[1], 10, k.stream), "overlap")
		}
		return errors.Join(thread.CopyOnDevice(k.memory, 0, k.memory, 10, 10, k.stream), thread.CopyOnDevice(k.memory, 10, k.memory, 0, 10, k.stream))
	})
}

func TestAllocationOfNothing(t *testing.T) {
	device := openDevice(t, cudatest.Library(t), cuda.DeviceOptions{})
	do(t, device, func(thread *cuda.Thread) error {
		for _, size := range []int{0, -1} {
			_, err := thread.Alloc(size)
			wantError(t, err, fmt.Sprintf("CUDA device 0: allocate device memory: expected 1 byte or more, found %d", size))
			_, err = thread.AllocPinned(size)
			wantError(t, err, fmt.Sprintf("allocate pinned memory: expected 1 byte or more, found %d", size))
		}
		return nil
	})
}

func TestOutOfMemory(t *testing.T) {
	fake := cudatest.Library(t)
	fake.Set("memory_bytes", 1<<20)
	fake.Set("pinned_bytes", 1<<10)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	do(t, device, func(thread *cuda.Thread) error {
		first, err := thread.Alloc(1 << 19)
		if err != nil {
			return err
		}
		free, total, err := thread.MemoryInfo()
		if err != nil || free != 1<<19 || total != 1<<20 {
			t.Errorf("found %d of %d bytes free, %v", free, total, err)
		}
		_, err = thread.Alloc(1<<19 + 1)
		short := as[*cuda.OutOfMemoryError](t, err)
		if short.Requested != 1<<19+1 || short.Free != 1<<19 || short.Total != 1<<20 || short.Kind != "device memory" {
			t.Errorf("found %+v", short)
		}
		if failed := as[*cuda.Error](t, err); !failed.OutOfMemory() || failed.Sticky() {
			t.Errorf("found %+v", failed)
		}
		wantError(t, err, "allocate 524289 bytes of device memory: 524288 of 1048576 bytes of device memory are free: cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory; use a smaller batch")

		fake.Fail("cuMemGetInfo_v2", 999)
		_, err = thread.Alloc(1 << 20)
		wantError(t, err, "the driver does not say what is free")

		_, err = thread.AllocPinned(1<<10 + 1)
		if short = as[*cuda.OutOfMemoryError](t, err); short.Kind != "pinned memory" || short.Requested != 1025 {
			t.Errorf("found %+v", short)
		}

		// It is no end: less still fits.
		second, err := thread.Alloc(1 << 19)
		return errors.Join(err, second.Free(), first.Free())
	})
	if err := device.Lost(); err != nil {
		t.Errorf("too little memory does not lose the context: %v", err)
	}
	if live := device.Live(); live != (cuda.Live{}) {
		t.Errorf("found %v", live)
	}
}

func TestMisalignedAddress(t *testing.T) {
	fake := cudatest.Library(t)
	fake.Set("misaligned", 1)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	do(t, device, func(thread *cuda.Thread) error {
		_, err := thread.Alloc(1000)
		wantError(t, err, "expected an address aligned to 256 bytes")
		return nil
	})
	if count := fake.Count("device_blocks"); count != 0 {
		t.Errorf("%d memories are left", count)
	}
}

func TestUseAfterFree(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 100)
	do(t, device, func(thread *cuda.Thread) error {
		event, err := thread.NewEvent(true)
		if err != nil {
			return err
		}
		graph, err := thread.Capture(k.stream, func() error { return nil })
		if err != nil {
			return err
		}
		if err := free(event, graph, k.stream, k.memory, k.pinned); err != nil {
			return err
		}
		before := fake.Count("calls")
		for name, err := range everyCall(thread, k, event, graph) {
			if !errors.Is(err, cuda.ErrFreed) {
				t.Errorf("%s: want ErrFreed, found %v", name, err)
			}
		}
		if err := free(event, graph, k.stream, k.memory, k.pinned); err != nil {
			t.Errorf("freed twice: %v", err)
		}
		if after := fake.Count("calls"); after != before {
			t.Errorf("the driver was called %d times", after-before)
		}
		return nil
	})
	if live := device.Live(); live != (cuda.Live{}) {
		t.Errorf("found %v", live)
	}
}

// Every call's error names what it was for, and is the driver's.
func TestErrorsOfCalls(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 1024)
	do(t, device, func(thread *cuda.Thread) error {
		event, err := thread.NewEvent(true)
		if err != nil {
			return err
		}
		graph, err := thread.Capture(k.stream, func() error { return nil })
		if err != nil {
			return err
		}
		if err := errors.Join(event.Record(k.stream), event.Synchronize()); err != nil {
			return err
		}
		calls := map[string]string{
			"copy to device": "cuMemcpyHtoDAsync_v2", "copy to host": "cuMemcpyDtoHAsync_v2", "copy on device": "cuMemcpyDtoDAsync_v2",
			"fill": "cuMemsetD8Async", "synchronize": "cuStreamSynchronize", "record": "cuEventRecord", "wait": "cuEventSynchronize",
			"launch": "cuGraphLaunch", "query": "cuStreamQuery", "elapsed": "cuEventElapsedTime", "capture": "cuStreamBeginCapture_v2",
		}
		for _, symbol := range calls {
			fake.Fail(symbol, 400)
		}
		errs := everyCall(thread, k, event, graph)
		for name, symbol := range map[string]string{"stream": "cuStreamCreate", "event": "cuEventCreate", "alloc": "cuMemAlloc_v2", "alloc pinned": "cuMemHostAlloc", "memory info": "cuMemGetInfo_v2"} {
			calls["make "+name] = symbol
			fake.Fail(symbol, 400)
		}
		for name, err := range makers(thread) {
			errs["make "+name] = err
		}
		for name, symbol := range calls {
			if found := as[*cuda.Error](t, errs[name]); found.Call != symbol || found.Code != 400 {
				t.Errorf("%s: want %s (400), found %v", name, symbol, found)
			}
			wantError(t, errs[name], "CUDA device 0: ", "a fault of gladd")
		}
		fake.Fail("cuEventDestroy_v2", 400)
		wantError(t, event.Free(), "CUDA device 0: free event: cuEventDestroy_v2")
		return graph.Free()
	})
	if events := fake.Count("events"); events != 1 {
		t.Errorf("want the event left that could not be freed, found %d", events)
	}
}

// Ten thousand parts leave nothing behind.
func TestNoGrowth(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 64<<10)
	type footprint struct{ operations, blocks, bytes, live, heap int }
	measure := func() footprint {
		return footprint{fake.Count("operations"), fake.Count("device_blocks") + fake.Count("pinned_blocks"), fake.Count("device_bytes"), device.Live().MemoryBytes, cudatest.HeapBytes()}
	}
	round := func(thread *cuda.Thread) error {
		scratch, err := thread.Alloc(512)
		if err != nil {
			return err
		}
		return errors.Join(
			thread.CopyToDevice(k.memory, 0, k.pinned, 0, 512, k.stream),
			thread.CopyOnDevice(scratch, 0, k.memory, 0, 512, k.stream),
			thread.CopyToHost(k.pinned, 0, scratch, 0, 512, k.stream),
			k.stream.Synchronize(),
			scratch.Free(),
		)
	}
	rounds := func(count int) {
		for range count {
			do(t, device, round)
		}
	}
	do(t, device, func(*cuda.Thread) error { copy(k.pinned.Bytes(), bytes.Repeat([]byte{3}, 512)); return nil })
	rounds(100)
	before := measure()
	rounds(10_000)
	after := measure()
	// The C heap is all threads'; the fake's own would grow by megabytes.
	if growth := after.heap - before.heap; growth > 64<<10 {
		t.Errorf("the C heap grew by %d bytes", growth)
	}
	before.heap, after.heap = 0, 0
	if before != after {
		t.Errorf("want %+v as before, found %+v", before, after)
	}
	do(t, device, func(thread *cuda.Thread) error {
		contents, err := k.contents(thread)
		if !bytes.Equal(contents[:512], bytes.Repeat([]byte{3}, 512)) {
			t.Error("the bytes changed on the way")
		}
		return err
	})
}
