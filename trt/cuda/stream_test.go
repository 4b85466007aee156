//go:build linux && cgo

package cuda_test

import (
	"bytes"
	"errors"
	"testing"

	"gladd/trt/cuda"
	"gladd/trt/cuda/cudatest"
)

func TestStreams(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 256)
	do(t, device, func(thread *cuda.Thread) error {
		other, err := thread.NewStream()
		if err != nil {
			return err
		}
		if k.stream.Handle() == 0 || k.stream.Handle() == other.Handle() {
			t.Errorf("found handles %#x and %#x", k.stream.Handle(), other.Handle())
		}
		if done, err := k.stream.Query(); !done || err != nil {
			t.Errorf("a stream without work: found %t, %v", done, err)
		}
		if err := thread.Fill(k.memory, 0, 1, 256, k.stream); err != nil {
			return err
		}
		if done, err := k.stream.Query(); done || err != nil {
			t.Errorf("a stream with work: found %t, %v", done, err)
		}
		if err := other.Synchronize(); err != nil {
			return err
		}
		for done := false; !done; {
			if done, err = k.stream.Query(); err != nil {
				return err
			}
		}
		if pending := fake.Count("pending"); pending != 0 {
			t.Errorf("%d pieces of work are left", pending)
		}
		// What is under way is still done.
		if err := errors.Join(thread.Fill(k.memory, 0, 7, 256, other), other.Free(), other.Free()); err != nil {
			return err
		}
		contents, err := k.contents(thread)
		if !bytes.Equal(contents, bytes.Repeat([]byte{7}, 256)) {
			t.Error("a stream that was freed did not do its work")
		}
		return err
	})
}

func TestEvents(t *testing.T) {
	fake := cudatest.Library(t)
	device := openDevice(t, fake, cuda.DeviceOptions{})
	k := newKit(t, device, 256)
	do(t, device, func(thread *cuda.Thread) error {
		start, err1 := thread.NewEvent(true)
		end, err2 := thread.NewEvent(true)
		untimed, err3 := thread.NewEvent(false)
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		if start.Handle() == 0 || start.Handle() == end.Handle() {
			t.Errorf("found handles %#x and %#x", start.Handle(), end.Handle())
		}
		wantError(t, start.Synchronize(), "the event was never recorded")
		_, err := end.ElapsedMilliseconds(start)
		wantError(t, err, "time between events: expected events with timing", "found timing true, recorded false")
		err = errors.Join(start.Record(k.stream), thread.Fill(k.memory, 0, 1, 256, k.stream), end.Record(k.stream), untimed.Record(k.stream))
		if err != nil {
			return err
		}
		_, err = end.ElapsedMilliseconds(start)
		wantError(t, err, "an event has not happened yet; synchronize it first")
		_, err = untimed.ElapsedMilliseconds(start)
		wantError(t, err, "found timing false, recorded true")
		if err := end.Synchronize(); err != nil {
			return err
		}
		if pending := fake.Count("pending"); pending != 1 {
			t.Errorf("want only the last event to be under way, found %d pieces of work", pending)
		}
		if elapsed, err := end.ElapsedMilliseconds(start); err != nil || elapsed < 0 || elapsed > 60_000 {
			t.Errorf("found %v ms, %v", elapsed, err)
		}
		if elapsed, err := start.ElapsedMilliseconds(end); err != nil || elapsed > 0 {
			t.Errorf("backwards: found %v ms, %v", elapsed, err)
		}
		return errors.Join(untimed.Synchronize(), free(start, end, untimed))
	})
}
