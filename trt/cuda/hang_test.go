//go:build linux && cgo

package cuda_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gladd/trt/cuda"
	"gladd/trt/cuda/cudatest"
)

// hangTimeout of tests that hang; all else on the device must be done sooner.
const hangTimeout = 500 * time.Millisecond

func TestHangAndRecovery(t *testing.T) {
	t.Parallel()
	fake := cudatest.Library(t)
	var log logText
	told, recovered := make(chan error, 10), make(chan struct{}, 10)
	device := openDevice(t, fake, cuda.DeviceOptions{
		HangTimeout: hangTimeout, Log: log.logger(),
		OnHung: func(err error) { told <- err }, OnRecovered: func() { recovered <- struct{}{} },
	})
	k := newKit(t, device, 256)
	synchronize := func(*cuda.Thread) error { return k.stream.Synchronize() }
	for round := 1; round <= 2; round++ {
		fake.Hang("cuStreamSynchronize")

		// One waits for the thread while another hangs on it.
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- device.Do(t.Context(), "run decoder", synchronize) }()
		fake.AwaitHang()
		go func() { second <- device.Do(t.Context(), "next", nothing) }()

		err := <-first
		found := as[*cuda.HungError](t, err)
		if found.What != "run decoder" || found.After != hangTimeout || found.Device != 0 {
			t.Errorf("found %+v", found)
		}
		wantError(t, err, `CUDA device 0: "run decoder" has not returned after 500ms`)
		for name, other := range map[string]error{
			"the one that waited": <-second,
			"a later one":         device.Do(t.Context(), "later", func(*cuda.Thread) error { t.Error("it ran"); return nil }),
			"Hung":                device.Hung(),
			"OnHung":              <-told,
			"Reset":               device.Reset(t.Context()),
		} {
			if !errors.Is(other, err) {
				t.Errorf("%s: want the same error, found %v", name, other)
			}
		}

		fake.Release()
		<-recovered
		if err := device.Hung(); err != nil {
			t.Errorf("it works and is called hung: %v", err)
		}
		do(t, device, synchronize)
		if got := strings.Count(log.String(), "GPU hangs"); got != round {
			t.Errorf("want %d lines about hangs, found %d:\n%s", round, got, log.String())
		}
	}
	if len(told) != 0 || len(recovered) != 0 {
		t.Error("OnHung or OnRecovered was called more than once a hang")
	}
	if got := strings.Count(log.String(), "GPU answers again"); got != 2 {
		t.Errorf("want 2 lines about recoveries, found %d:\n%s", got, log.String())
	}
}

func TestErrorAfterAHangIsLogged(t *testing.T) {
	t.Parallel()
	fake := cudatest.Library(t)
	var log logText
	recovered := make(chan struct{})
	device := openDevice(t, fake, cuda.DeviceOptions{HangTimeout: hangTimeout, Log: log.logger(), OnRecovered: func() { close(recovered) }})
	release := make(chan struct{})
	err := device.Do(t.Context(), "slow", func(*cuda.Thread) error {
		<-release
		panic("too late")
	})
	wantAs[*cuda.HungError](t, err)
	close(release)
	<-recovered
	if text := log.String(); !strings.Contains(text, "too late") {
		t.Errorf("the panic is lost:\n%s", text)
	}
}

// Work that is known to be long has a time of its own.
func TestDoWithin(t *testing.T) {
	t.Parallel()
	recovered := make(chan struct{}, 1)
	device := openDevice(t, cudatest.Library(t), cuda.DeviceOptions{HangTimeout: hangTimeout, OnRecovered: func() { recovered <- struct{}{} }})
	err := device.DoWithin(t.Context(), "build", time.Hour, func(*cuda.Thread) error {
		time.Sleep(2 * hangTimeout) // what takes long is the point
		return nil
	})
	if err != nil {
		t.Errorf("found %v", err)
	}
	release := make(chan struct{})
	err = device.DoWithin(t.Context(), "short", time.Millisecond, func(*cuda.Thread) error { <-release; return nil })
	if hung := as[*cuda.HungError](t, err); hung.After != time.Millisecond {
		t.Errorf("found %+v", hung)
	}
	close(release)
	<-recovered
	for _, timeout := range []time.Duration{0, -1} {
		wantError(t, device.DoWithin(t.Context(), "never", timeout, nothing), "CUDA device 0: never: hang timeout: expected a positive duration")
	}
}

func TestOpenHangs(t *testing.T) {
	t.Parallel()
	fake := cudatest.Library(t)
	driver := openDriver(t, fake)
	fake.Hang("cuDevicePrimaryCtxRetain")
	_, err := driver.OpenDevice(0, cuda.DeviceOptions{HangTimeout: hangTimeout})
	found := as[*cuda.HungError](t, err)
	if found.What != "retain the context" || strings.Count(err.Error(), "has not returned") != 1 {
		t.Errorf("found %v", err)
	}
	wantError(t, driver.Close(), "devices [0] are open")
	fake.Release()
	// The device, which nobody has, is released by itself.
	for driver.Close() != nil {
		time.Sleep(time.Millisecond)
	}
	if live := fake.Live(); len(live) > 0 {
		t.Errorf("the fake has left %v", live)
	}
}

func TestCloseWhileItHangs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ symbol, what string }{
		"in a function": {"cuStreamSynchronize", "hang"},
		"in Close":      {"cuDevicePrimaryCtxRelease_v2", "close"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := cudatest.Library(t)
			driver := openDriver(t, fake)
			recovered := make(chan struct{})
			device, err := driver.OpenDevice(0, cuda.DeviceOptions{HangTimeout: hangTimeout, OnRecovered: func() { close(recovered) }})
			if err != nil {
				t.Fatal(err)
			}
			var stream *cuda.Stream
			do(t, device, func(thread *cuda.Thread) (err error) {
				stream, err = thread.NewStream()
				return err
			})
			fake.Hang(test.symbol)
			err = device.Do(t.Context(), "hang", func(*cuda.Thread) error { return errors.Join(stream.Synchronize(), stream.Free()) })
			if test.what == "hang" {
				wantAs[*cuda.HungError](t, err)
			} else if err != nil {
				t.Fatal(err)
			}
			if found := as[*cuda.HungError](t, device.Close()); found.What != test.what {
				t.Errorf("found %+v", found)
			}
			fake.Release()
			if test.what == "hang" {
				<-recovered
			}
			if err := errors.Join(device.Close(), driver.Close()); err != nil {
				t.Errorf("closed in the end: %v", err)
			}
			if live := fake.Live(); len(live) > 0 {
				t.Errorf("the fake has left %v", live)
			}
		})
	}
}
