//go:build linux && cgo

package cuda

import (
	"bytes"
	"os"
	"testing"
)

// The whole layer on a true driver and GPU: see make test-gpu.
func TestDriverOnThisMachine(t *testing.T) {
	if os.Getenv("GLADD_TEST_GPU") == "" {
		t.Skip("GLADD_TEST_GPU does not say that there is a GPU")
	}
	driver, err := Open(Options{Library: os.Getenv("GLADD_CUDA_LIBRARY")})
	if err != nil {
		t.Fatal(err)
	}
	devices, err := driver.Devices()
	if err != nil || len(devices) == 0 {
		t.Fatalf("expected a device, found %v, %v", devices, err)
	}
	t.Logf("CUDA %s, %+v", driver.Version(), devices)
	device, err := driver.OpenDevice(0, DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, run func(*Thread) error) {
		t.Helper()
		if err := device.Do(t.Context(), what, run); err != nil {
			t.Fatal(err)
		}
	}
	round := func() {
		check("copies", func(thread *Thread) error {
			const size = 1 << 20
			stream, err := thread.NewStream()
			if err != nil {
				return err
			}
			up, err := thread.AllocPinned(size)
			if err != nil {
				return err
			}
			down, err := thread.AllocPinned(size)
			if err != nil {
				return err
			}
			first, err := thread.Alloc(size)
			if err != nil {
				return err
			}
			second, err := thread.Alloc(size)
			if err != nil {
				return err
			}
			begin, err := thread.NewEvent(true)
			if err != nil {
				return err
			}
			end, err := thread.NewEvent(true)
			if err != nil {
				return err
			}
			graph, err := thread.Capture(stream, func() error {
				if err := thread.CopyToDevice(first, 0, up, 0, size, stream); err != nil {
					return err
				}
				if err := thread.CopyOnDevice(second, 0, first, 0, size/2, stream); err != nil {
					return err
				}
				if err := thread.Fill(second, size/2, 7, size/2, stream); err != nil {
					return err
				}
				return thread.CopyToHost(down, 0, second, 0, size, stream)
			})
			if err != nil {
				return err
			}
			for value := byte(1); value < 4; value++ {
				for i := range up.Bytes() {
					up.Bytes()[i] = value
				}
				if err := begin.Record(stream); err != nil {
					return err
				}
				if err := graph.Launch(stream); err != nil {
					return err
				}
				if err := end.Record(stream); err != nil {
					return err
				}
				if err := stream.Synchronize(); err != nil {
					return err
				}
				want := append(bytes.Repeat([]byte{value}, size/2), bytes.Repeat([]byte{7}, size/2)...)
				if !bytes.Equal(down.Bytes(), want) {
					t.Errorf("value %d: the copies did not arrive", value)
				}
				if took, err := end.ElapsedMilliseconds(begin); err != nil || took <= 0 {
					t.Errorf("time of the graph: found %v, %v", took, err)
				}
			}
			_, err = thread.Alloc(1 << 50)
			t.Logf("a petabyte: %v", err)
			if err == nil {
				t.Error("a petabyte was allocated")
			}
			for _, each := range []interface{ Free() error }{graph, begin, end, up, down, first, second, stream} {
				if err := each.Free(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	round()
	if err := device.Reset(t.Context()); err != nil {
		t.Errorf("reset: %v", err)
	}
	round()
	if live := device.Live(); live != (Live{}) {
		t.Errorf("left: %s", live)
	}
	if err := device.Close(); err != nil {
		t.Error(err)
	}
	if err := driver.Close(); err != nil {
		t.Error(err)
	}
}
