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
