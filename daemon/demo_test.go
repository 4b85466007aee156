package main

import (
	"path/filepath"
	"strings"
	"testing"

	"gladd/engines/enginetest"
)

// The demo's model tells good parts of the virtual line from bad ones.
func TestDemoBundle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "parts")
	if code, _, stderr := gladd(t, "line", "--out", dir, "--train", "0", "--good", "4", "--defective", "9", "--seed", "77"); code != 0 {
		t.Fatal(stderr)
	}
	code, stdout, stderr := gladd(t, "inspect", "--bundle", enginetest.Path(t, "bundles/demo"), filepath.Join(dir, "test"))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	found := lines(t, stdout)
	if len(found) != 13 {
		t.Fatalf("want 13 lines, found %d", len(found))
	}
	for _, line := range found {
		name := line["image"].(string)
		want := "NotOK"
		if strings.Contains(name, "/good/") {
			want = "OK"
		} else if !strings.Contains(name, "obvious") {
			continue // what is barely visible may escape; docs/accuracy.md has the figures
		}
		if line["evaluation"] != want {
			t.Errorf("%s: want %s, found %v with score %v", name, want, line["evaluation"], line["score"])
		}
	}
}
