//go:build linux && cgo

package cuda_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"gladd/trt/cuda"
	"gladd/trt/cuda/cudatest"
)

// increment enqueues work of another library that adds 1 to every byte.
func increment(fake *cudatest.Fake, k *kit) error {
	if code := fake.Increment(k.stream.Handle(), k.memory.Address(), k.memory.Size()); code != 0 {
		return fmt.Errorf("fake_cuda_enqueue gave %d", code)
	}
	return nil
}

func TestGraph(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 256)
	do(t, device, func(thread *cuda.Thread) error {
		if err := errors.Join(thread.Fill(k.memory, 0, 10, 256, k.stream), k.stream.Synchronize()); err != nil {
			return err
		}
		graph, err := thread.Capture(k.stream, func() error { return errors.Join(increment(fake, k), increment(fake, k)) })
		if err != nil {
			return err
		}
		contents, err := k.contents(thread)
		if err != nil {
			return err
		}
		if contents[0] != 10 {
			t.Errorf("the capture ran: found %d", contents[0])
		}
		for range 3 {
			if err := graph.Launch(k.stream); err != nil {
				return err
			}
		}
		// What was launched runs although the graph is freed.
		if err := errors.Join(graph.Free(), graph.Free()); err != nil {
			return err
		}
		if contents, err = k.contents(thread); !bytes.Equal(contents, bytes.Repeat([]byte{16}, 256)) {
			t.Errorf("want 10 + 3 x 2, found %d", contents[0])
		}
		return err
	})
	if left := fake.Count("graphs") + fake.Count("executables") + fake.Count("operations"); left != 0 {
		t.Errorf("%d graphs and pieces of work are left", left)
	}
}

// A capture that fails ends all the same: the stream is of use, and nothing of
// the capture is left or runs.
func TestFailedCapture(t *testing.T) {
	mine := errors.New("mine")
	for name, test := range map[string]struct {
		fail string // symbol
		code int
		run  func(*testing.T, *cuda.Thread, *kit) error
		want string
	}{
		"function fails": {"", 0, func(*testing.T, *cuda.Thread, *kit) error { return mine }, "CUDA device 0: capture a graph: while it was captured: mine"},
		"function fails after it spoilt the capture": {"", 0, func(_ *testing.T, _ *cuda.Thread, k *kit) error { return k.stream.Synchronize() },
			"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (900)"},
		"spoilt by synchronizing": {"", 0, func(_ *testing.T, _ *cuda.Thread, k *kit) error { _ = k.stream.Synchronize(); return nil },
			"cuStreamEndCapture: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED (901): operation failed due to a previous error during capture; a call that a CUDA graph cannot hold"},
		"spoilt by allocating": {"", 0, func(_ *testing.T, thread *cuda.Thread, _ *kit) error { _, _ = thread.Alloc(1); return nil },
			"(901)"},
		"capture in a capture": {"", 0, func(_ *testing.T, thread *cuda.Thread, k *kit) error {
			_, err := thread.Capture(k.stream, func() error { return nil })
			return err
		}, "a capture is under way already"},
		"stream freed": {"", 0, func(_ *testing.T, _ *cuda.Thread, k *kit) error { return k.stream.Free() }, "its work is captured now"},
		"end":          {"cuStreamEndCapture", 999, nil, "cuStreamEndCapture: unknown error (999)"},
		"instantiate":  {"cuGraphInstantiateWithFlags", 2, nil, "cuGraphInstantiateWithFlags: CUDA_ERROR_OUT_OF_MEMORY"},
		"destroy":      {"cuGraphDestroy", 999, nil, "cuGraphDestroy"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := cudatest.Library(t)
			device := openDevice(t, fake, cuda.DeviceOptions{})
			k := newKit(t, device, 256)
			do(t, device, func(thread *cuda.Thread) error {
				if err := errors.Join(thread.Fill(k.memory, 0, 1, 256, k.stream), k.stream.Synchronize()); err != nil {
					return err
				}
				if test.fail != "" {
					fake.Fail(test.fail, test.code)
				}
				graph, err := thread.Capture(k.stream, func() error {
					if err := increment(fake, k); err != nil {
						return err
					}
					if test.run == nil {
						return nil
					}
					return test.run(t, thread, k)
				})
				wantError(t, err, test.want)
				if name == "function fails" && !errors.Is(err, mine) {
					t.Error("the cause is lost")
				}
				if graph != nil || device.Live().Graphs != 0 || fake.Count("executables") != 0 {
					t.Error("there is a graph")
				}
				if test.fail == "" && fake.Count("operations") != 0 {
					t.Error("something of the capture is left")
				}
				if test.fail == "cuStreamEndCapture" {
					return nil // the fake goes on capturing, as it was told to
				}
				contents, err := k.contents(thread)
				if contents[0] != 1 {
					t.Errorf("the capture ran: found %d", contents[0])
				}
				return err
			})
			if test.fail == "" {
				do(t, device, func(thread *cuda.Thread) error {
					graph, err := thread.Capture(k.stream, func() error { return increment(fake, k) })
					if err != nil {
						return err
					}
					return graph.Free()
				})
			}
		})
	}
}

func TestTenThousandLaunches(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 1)
	do(t, device, func(thread *cuda.Thread) error {
		graph, err := thread.Capture(k.stream, func() error { return increment(fake, k) })
		if err != nil {
			return err
		}
		if err := thread.Fill(k.memory, 0, 0, 1, k.stream); err != nil {
			return err
		}
		for range 10_000 {
			if err := errors.Join(graph.Launch(k.stream), k.stream.Synchronize()); err != nil {
				return err
			}
		}
		if operations := fake.Count("operations"); operations != 1 {
			t.Errorf("want the graph's one piece of work left, found %d", operations)
		}
		if contents, err := k.contents(thread); err != nil || contents[0] != 10_000%256 {
			t.Errorf("want %d, found %d, %v", 10_000%256, contents[0], err)
		}
		return graph.Free()
	})
}
