//go:build linux && cgo

package onnxruntime_test

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"gladd/engines/enginetest"
	"gladd/engines/onnxruntime"
	"gladd/trt/cuda/cudatest"
)

// onGPU opens a backend as on a GPU, with a fake driver beside the processors' build, and
// what it tells of a loss.
func onGPU(t *testing.T, log *slog.Logger) (backend *onnxruntime.Backend, driver *cudatest.Fake, lost *[]error) {
	t.Helper()
	driver = cudatest.Library(t)
	driver.Set("uuid", rand.Int())
	backend, err := onnxruntime.New(onnxruntime.Options{Library: enginetest.Library(t), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	lost = &[]error{}
	backend.UseGPU(onnxruntime.Options{CUDALibrary: driver.Path, Log: log, OnLost: func(err error) { *lost = append(*lost, err) }})
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	return backend, driver, lost
}

// A call that fails is an error of its own as long as the driver works; once it does
// not, nothing is called any more, and whoever can start the process again is told once.
func TestLostGPU(t *testing.T) {
	for name, test := range map[string]struct {
		symbol string
		code   int
		lost   bool
	}{
		"it works":            {"", 0, false},
		"its memory is full":  {"cuStreamCreate", 2, false},
		"a sticky error":      {"cuStreamSynchronize", 700, true},
		"it is off the bus":   {"cuStreamCreate", 999, true},
		"no context any more": {"cuDevicePrimaryCtxRetain", 46, true},
	} {
		t.Run(name, func(t *testing.T) {
			backend, driver, lost := onGPU(t, quiet)
			bundle := enginetest.Load(t, enginetest.TinyA(t))
			networks, err := backend.Open(t.Context(), bundle)
			if err != nil {
				t.Fatal(err)
			}
			if test.symbol != "" {
				driver.FailAfter(test.symbol, test.code, 0, 1)
			}
			m := bundle.Manifest
			latents := make([]float32, m.Latent.Channels*m.Latent.Width*m.Latent.Height)
			wrong := func() error { return networks.Reconstruct(t.Context(), latents, nil) }
			right := func() error {
				return networks.Reconstruct(t.Context(), latents, make([]float32, 3*m.Image.Width*m.Image.Height))
			}
			var ended *onnxruntime.LostError
			err = wrong()
			if errors.As(err, &ended) != test.lost || err == nil || !strings.Contains(err.Error(), "expected room for") {
				t.Errorf("a call that fails: expected the GPU lost: %t, found %v", test.lost, err)
			}
			if err := right(); errors.As(err, &ended) != test.lost || (err == nil) == test.lost {
				t.Errorf("the next call: expected the GPU lost: %t, found %v", test.lost, err)
			}
			if fault := backend.Fault(); (fault != nil) != test.lost || onnxruntime.IsMachine(fault) != test.lost {
				t.Errorf("expected a fault of the machine: %t, found %v", test.lost, fault)
			}
			if (len(*lost) == 1) != test.lost {
				t.Errorf("expected to be told once: %t, found %v", test.lost, *lost)
			}
			if err := errors.Join(networks.Close(), backend.Close(), onnxruntime.FreeLeft()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Another gladd on the same GPU is noticed, whichever backend it uses.
func TestTwoProgramsOnOneGPU(t *testing.T) {
	var log bytes.Buffer
	_, driver, _ := onGPU(t, quiet)
	second, err := onnxruntime.New(onnxruntime.Options{Library: enginetest.Library(t)})
	if err != nil {
		t.Fatal(err)
	}
	second.UseGPU(onnxruntime.Options{CUDALibrary: driver.Path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "another gladd uses this GPU") {
		t.Errorf("expected a warning, found %s", &log)
	}
}

// Which failures to open networks a new start may mend.
func TestCannotOpen(t *testing.T) {
	backend, driver, _ := onGPU(t, quiet)
	for text, machine := range map[string]bool{
		"libcudnn.so.9: cannot open shared object file":          true,
		"This is an invalid model":                               false,
		"CUDA failure 2: out of memory ; GPU=0":                  true,
		"Failed to allocate memory for requested buffer of 1 GB": true,
	} {
		if err := backend.CannotOpen(errors.New(text)); onnxruntime.IsMachine(err) != machine {
			t.Errorf("%s: expected the machine's: %t, found %v", text, machine, err)
		}
	}
	without := driver.Path + ".none"
	for name, missing := range map[string]func() string{
		"no driver": func() string { return without },
		"no GPU":    func() string { driver.Set("device_count", 0); return driver.Path },
	} {
		backend, _, _ := onGPU(t, quiet)
		backend.UseGPU(onnxruntime.Options{CUDALibrary: missing(), Log: quiet})
		if err := backend.CannotOpen(errors.New("CUDA failure 100")); !onnxruntime.IsMachine(err) || backend.Fault() != nil {
			t.Errorf("%s: expected an error of the machine and nothing lost, found %v", name, err)
		}
	}
	driver.Set("device_count", 1)
	networks, err := backend.Open(t.Context(), enginetest.Load(t, enginetest.Micro(t)))
	if err != nil {
		t.Fatal(err)
	}
	driver.Fail("cuStreamSynchronize", 719)
	var lost *onnxruntime.LostError
	if err := backend.CannotOpen(errors.New("CUDA failure 719")); !errors.As(err, &lost) {
		t.Errorf("expected a LostError, found %v", err)
	}
	if err := errors.Join(networks.Close(), backend.Close(), onnxruntime.FreeLeft()); err != nil {
		t.Error(err)
	}
}

var quiet = slog.New(slog.DiscardHandler)
