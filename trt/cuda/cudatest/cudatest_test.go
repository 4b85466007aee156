//go:build linux && cgo

package cudatest_test

import (
	"os"
	"testing"

	"gladd/trt/cuda/cudatest"
)

// Each fake has a state of its own.
func TestFakesAreApart(t *testing.T) {
	first, second := cudatest.Library(t), cudatest.Library(t)
	if first.Path == second.Path {
		t.Fatalf("both are %s", first.Path)
	}
	for _, fake := range []*cudatest.Fake{first, second} {
		if _, err := os.Stat(fake.Path); err != nil {
			t.Error(err)
		}
	}
	if code := first.Increment(0, 0, 1); code != 400 {
		t.Errorf("work for no stream: want 400, found %d", code)
	}
	if live := first.Live(); len(live) > 0 {
		t.Errorf("found %v", live)
	}
	if first.Valid(0, 0) || first.Valid(4096, 1) {
		t.Error("addresses are valid that nobody allocated")
	}
}
