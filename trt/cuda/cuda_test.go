//go:build linux && cgo

package cuda_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"gladd/trt/cuda"
	"gladd/trt/cuda/cudatest"
)

// openDriver opens the fake, and closes it at the test's end.
func openDriver(t *testing.T, fake *cudatest.Fake) *cuda.Driver {
	t.Helper()
	driver, err := cuda.Open(cuda.Options{Library: fake.Path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := driver.Close(); err != nil {
			t.Errorf("close the driver: %v", err)
		}
	})
	return driver
}

// openDevice opens the fake's first device. At the test's end it is closed, and
// neither it nor the fake may have anything left.
func openDevice(t *testing.T, fake *cudatest.Fake, options cuda.DeviceOptions) *cuda.Device {
	t.Helper()
	device, err := openDriver(t, fake).OpenDevice(0, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := device.Close(); err != nil {
			t.Errorf("close the device: %v", err)
		}
		if live := fake.Live(); len(live) > 0 {
			t.Errorf("the fake has left %v", live)
		}
	})
	return device
}

// do runs a function on the device; its error ends the test.
func do(t *testing.T, device *cuda.Device, run func(*cuda.Thread) error) {
	t.Helper()
	if err := device.Do(t.Context(), "test", run); err != nil {
		t.Fatal(err)
	}
}

// wantError fails the test unless the error has all the words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("want an error with %q, found none", words)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("want %q in the error, found %v", word, err)
		}
	}
}

// wantAs fails the test unless there is an error of the type in it.
func wantAs[E error](t *testing.T, err error) {
	t.Helper()
	_ = as[E](t, err)
}

// as is errors.As that fails the test.
func as[E error](t *testing.T, err error) (found E) {
	t.Helper()
	if !errors.As(err, &found) {
		t.Fatalf("want a %T, found %T: %v", found, err, err)
	}
	return found
}

// free frees all and joins what fails.
func free(things ...interface{ Free() error }) error {
	var err error
	for _, thing := range things {
		err = errors.Join(err, thing.Free())
	}
	return err
}

// kit is what most tests need on a device.
type kit struct {
	stream *cuda.Stream
	memory *cuda.Memory
	pinned *cuda.Pinned
}

func newKit(t *testing.T, device *cuda.Device, size int) *kit {
	t.Helper()
	made := &kit{}
	do(t, device, func(thread *cuda.Thread) (err error) {
		if made.stream, err = thread.NewStream(); err != nil {
			return err
		}
		if made.memory, err = thread.Alloc(size); err != nil {
			return err
		}
		made.pinned, err = thread.AllocPinned(size)
		return err
	})
	t.Cleanup(func() {
		err := device.Do(context.Background(), "free", func(*cuda.Thread) error { return free(made.stream, made.memory, made.pinned) })
		if err != nil && !errors.Is(err, cuda.ErrClosed) {
			t.Errorf("free: %v", err)
		}
	})
	return made
}

// contents copies the memory back.
func (k *kit) contents(thread *cuda.Thread) ([]byte, error) {
	err := errors.Join(thread.CopyToHost(k.pinned, 0, k.memory, 0, k.memory.Size(), k.stream), k.stream.Synchronize())
	return bytes.Clone(k.pinned.Bytes()), err
}

// logText is a log that a test reads while others write.
type logText struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (l *logText) Write(line []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(line)
}

func (l *logText) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

func (l *logText) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestLive(t *testing.T) {
	for want, live := range map[string]cuda.Live{
		"nothing":                               {},
		"1 stream":                              {Streams: 1},
		"2 streams, 1 event, 3 graphs":          {Streams: 2, Events: 1, Graphs: 3},
		"1 memory (7 bytes)":                    {Memories: 1, MemoryBytes: 7},
		"2 pinned memories (64 bytes)":          {Pinned: 2, PinnedBytes: 64},
		"2 memories (9 bytes), 1 pinned memory": {Memories: 2, MemoryBytes: 9, Pinned: 1},
	} {
		if found := live.String(); found != want {
			t.Errorf("want %q, found %q", want, found)
		}
	}
}

func TestVersion(t *testing.T) {
	for number, want := range map[cuda.Version]string{0: "unknown", 11040: "11.4", 12040: "12.4", 12090: "12.9", 13000: "13.0"} {
		if found := fmt.Sprint(number); found != want {
			t.Errorf("%d: want %s, found %s", int(number), want, found)
		}
	}
}
