//go:build !linux || !cgo

package cuda_test

import (
	"errors"
	"strings"
	"testing"

	"gladd/trt/cuda"
)

func TestBuiltWithoutCgo(t *testing.T) {
	_, err := cuda.Open(cuda.Options{})
	var found *cuda.LibraryError
	if !errors.As(err, &found) || !strings.Contains(err.Error(), "built without cgo") || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("want a LibraryError with the cause and what to do, found %v", err)
	}
}
