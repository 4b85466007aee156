//go:build tensorrt

package tensorrt

import (
	"slices"
	"strings"
	"testing"

	"gladd/engines/enginetest"
	"gladd/trt/trttest"
)

// Models share the memory that they compute in: of the size that the largest wants, and
// for as long as there is one.
func TestModelsShareTheMemoryTheyComputeIn(t *testing.T) {
	for name, test := range map[string]struct {
		fault string // while the second model is loaded
		want  string // in the log
	}{
		"the first moves":               {"", ""},
		"the first is loaded once more": {",setDeviceMemory=trail", "engines do not move to a larger memory"},
	} {
		t.Run(name, func(t *testing.T) {
			box := newBox(t, trttest.V10_3)
			backend := box.backend(t)
			small, other := enginetest.Load(t, enginetest.TinyA(t)), enginetest.Load(t, enginetest.Micro(t))
			first := box.open(t, backend, enginetest.TinyA(t))
			want, err := call(t.Context(), small.Manifest, first, "compare", 1)
			if err != nil {
				t.Fatal(err)
			}
			if found := backend.scratch.Size(); found != 4096 {
				t.Errorf("one model: expected 4096 bytes, found %d", found)
			}
			if _, err := backend.Build(t.Context(), other, false); err != nil {
				t.Fatal(err)
			}

			trttest.Fault(t, "deviceMemory=100000"+test.fault)
			second, err := backend.Open(t.Context(), other)
			if failed := err != nil; failed != (test.fault != "") {
				t.Fatalf("the larger model: found %v", err)
			}
			trttest.Fault(t, "deviceMemory=100000")
			if test.fault != "" {
				if second, err = backend.Open(t.Context(), other); err != nil {
					t.Fatal(err)
				}
			}
			if found := backend.scratch.Size(); found != 100000 {
				t.Errorf("a larger model beside it: expected 100000 bytes, found %d", found)
			}
			if test.want != "" && !strings.Contains(box.log.String(), test.want) {
				t.Errorf("expected %q, found %s", test.want, box.log)
			}
			for range 3 {
				got, err := call(t.Context(), small.Manifest, first, "compare", 1)
				if err != nil || !slices.Equal(want, got) {
					t.Errorf("the first model: expected the same map as before, found %v", err)
				}
				if _, err := call(t.Context(), other.Manifest, second, "score", 1); err != nil {
					t.Errorf("the second model: %v", err)
				}
			}
			for name, routine := range first.loaded.routines {
				if routine.graph == nil {
					t.Errorf("%s: expected a CUDA graph, found none", name)
				}
			}
			if err := second.Close(); err != nil {
				t.Error(err)
			}
			if got, err := call(t.Context(), small.Manifest, first, "compare", 1); err != nil || !slices.Equal(want, got) {
				t.Errorf("the second is closed: expected the same map as before, found %v", err)
			}
			if err := first.Close(); err != nil {
				t.Error(err)
			}
			if backend.scratch != nil {
				t.Errorf("without models: expected no memory, found %d bytes", backend.scratch.Size())
			}
		})
	}
}
