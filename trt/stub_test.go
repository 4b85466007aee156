//go:build !tensorrt || !cgo || !linux

package trt

import (
	"errors"
	"testing"
)

func TestOpenSaysThatTensorRTIsNotBuiltIn(t *testing.T) {
	library, err := Open(Options{})
	var found *LibraryError
	if library != nil || !errors.As(err, &found) || err.Error() != errNotBuilt.Error() {
		t.Errorf("want a LibraryError %v, found %v", errNotBuilt, err)
	}
	if Built {
		t.Error("Built: want false")
	}
}
