//go:build tensorrt

package tensorrt

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"gladd/engines/enginetest"
	"gladd/trt/trttest"
)

// A driver that is too old for TensorRT shows when TensorRT uses the GPU: both versions
// and what to do are told, and it is the machine's fault, not the bundle's.
func TestDriverTooOldForTensorRT(t *testing.T) {
	for _, fault := range []string{"createInferRuntime", "deserializeCudaEngine", "createInferBuilder", "buildSerializedNetwork"} {
		t.Run(fault, func(t *testing.T) {
			box := newBox(t, trttest.V10_3)
			box.cuda.Set("driver_version", 11040)
			backend := box.backend(t)
			trttest.Fault(t, fault+"=driver")
			_, err := backend.Open(t.Context(), enginetest.Load(t, enginetest.TinyA(t)))
			want := fmt.Sprintf("the NVIDIA driver is too old for TensorRT 10.3.0 (%s): expected a driver for CUDA 12.0 or newer, found one for CUDA 11.4; update the driver", box.options.Library)
			var old *DriverError
			if !errors.As(err, &old) || !IsMachine(err) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "cudaError 35") {
				t.Errorf("expected %q, found %v", want, err)
			}
		})
	}
}

// TensorRT for RTX is refused where it has no kernels for the GPU; TensorRT is not.
func TestGPUThatRTXDoesNotSupport(t *testing.T) {
	for capability, supported := range map[int]bool{70: false, 75: true, 80: true, 86: true, 87: false, 89: true, 90: false, 100: false, 120: true, 121: false} {
		for _, version := range []trttest.Fake{trttest.RTX, trttest.V10_3} {
			t.Run(fmt.Sprintf("%s on %d", version.Name, capability), func(t *testing.T) {
				box := newBox(t, version)
				box.cuda.Set("compute_major", capability/10)
				box.cuda.Set("compute_minor", capability%10)
				backend, err := New(box.options)
				present := Present(box.options.Library, box.options.CUDALibrary)
				if err == nil {
					err = backend.Close()
				}
				if supported || version != trttest.RTX {
					if err != nil || present != nil {
						t.Errorf("expected it supported, found %v, %v", err, present)
					}
					return
				}
				want := fmt.Sprintf("expected compute capability 7.5 to 8.9 without 8.7, or 12.0, found %d.%d (Fake Orin); install TensorRT 10 or 11", capability/10, capability%10)
				for _, err := range []error{err, present} {
					var found *CapabilityError
					if !errors.As(err, &found) || !IsMachine(err) || Absent(err) || !strings.Contains(err.Error(), want) {
						t.Errorf("expected %q, found %v", want, err)
					}
				}
			})
		}
	}
}
