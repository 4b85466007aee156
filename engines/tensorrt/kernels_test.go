//go:build tensorrt

package tensorrt

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/trt/trttest"
)

// TensorRT for RTX compiles an engine's kernels where it runs: once, not at every start.
func TestKernelsAreKept(t *testing.T) {
	box := newBox(t, trttest.RTX)
	bundle := enginetest.Load(t, enginetest.TinyA(t))
	// start is a start of the program; it returns what was compiled and what a call gives.
	start := func() (compiled int, map_ []float32, log string) {
		t.Helper()
		journal := newJournal()
		box.options.Log = journal.logger()
		backend, err := New(box.options)
		if err != nil {
			t.Fatal(err)
		}
		networks := box.open(t, backend, enginetest.TinyA(t))
		if map_, err = call(t.Context(), bundle.Manifest, networks, "compare", 1); err != nil {
			t.Fatal(err)
		}
		if err := backend.Close(); err != nil {
			t.Fatal(err)
		}
		return strings.Count(journal.String(), "compiling a kernel"), map_, journal.String()
	}
	expect := func(what string, want int, words string) {
		t.Helper()
		compiled, _, log := start()
		if compiled != want || !strings.Contains(log, words) {
			t.Errorf("%s: expected %d kernels compiled and %q, found %d: %s", what, want, words, compiled, log)
		}
	}
	const all = 6 // of five networks, the decoder for one picture and for two
	compiled, before, _ := start()
	if compiled != all {
		t.Errorf("the first start: expected %d kernels compiled, found %d", all, compiled)
	}
	compiled, after, _ := start()
	if compiled != 0 || !slices.Equal(before, after) {
		t.Errorf("the second start: expected none compiled and the same map, found %d", compiled)
	}
	files, err := filepath.Glob(filepath.Join(box.options.CacheDir, "*"+kernelsSuffix))
	if err != nil || len(files) != all {
		t.Fatalf("expected %d files of kernels, found %v, %v", all, files, err)
	}

	content := enginetest.ReadFile(t, files[0])
	content[len(content)-1] ^= 1
	enginetest.WriteFile(t, files[0], content)
	expect("damaged ones", 1, "it is damaged")
	expect("and the next start", 0, "")

	trttest.Fault(t, "createRuntimeCache=null")
	expect("where TensorRT makes no cache", 0, "TensorRT compiles an engine's kernels")
	trttest.Fault(t, "")

	backend, err := New(box.options)
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close() //nolint:errcheck // the folder is what counts
	if entries, err := backend.Cache().List(); len(entries) != 5 || err != nil {
		t.Errorf("list: expected the engines only, found %d, %v", len(entries), err)
	}
	if _, err := backend.Prune(t.Context(), false, bundle); err != nil {
		t.Error(err)
	}
	expect("after a prune that keeps them", 0, "")

	// An engine that was built again has kernels of its own.
	key := backend.Key(bundle, engines.DINOScore)
	plan, entry, err := backend.Cache().Get(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := backend.Cache().Put(entry, append(plan, 0)); err != nil {
		t.Fatal(err)
	}
	expect("an engine that was built again", 1, "")

	if _, err := backend.Prune(t.Context(), false); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(box.options.CacheDir); len(left) != 1 || err != nil {
		t.Errorf("all pruned: expected the lock only, found %v, %v", left, err)
	}
}
