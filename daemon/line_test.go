package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLine(t *testing.T) {
	out := filepath.Join(t.TempDir(), "parts")
	code, _, stderr := gladd(t, "line", "--out", out, "--train", "2", "--good", "1", "--defective", "9", "--size", "64", "--part", "cap", "--seed", "3")
	if code != 0 || !strings.Contains(stderr, "parts=12") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, path := range []string{"train/good/0001.png", "test/good/0000.png", "test/dent/0000_obvious.png", "ground_truth/dent/0000_obvious_mask.png", "parts.jsonl"} {
		if _, err := os.Stat(filepath.Join(out, path)); err != nil {
			t.Error(err)
		}
	}
	for name, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"twice":    {[]string{"--out", out}, "name another, or remove it first"},
		"negative": {[]string{"--out", out + "2", "--train=-1"}, "--train: expected a number of parts, found -1"},
		"nothing":  {[]string{"--out", out + "2", "--train", "0", "--good", "0", "--defective", "0"}, "there is nothing to draw"},
		"kind":     {[]string{"--out", out + "2", "--part", "wheel"}, "--part must be one of"},
		"size":     {[]string{"--out", out + "2", "--size", "10"}, "size: expected 64 to 2048 pixels, found 10"},
	} {
		code, _, stderr := gladd(t, append([]string{"line"}, test.arguments...)...)
		if code != 2 || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: want exit code 2 and %q, found %d: %s", name, test.want, code, stderr)
		}
		if _, err := os.Stat(out + "2"); err == nil {
			t.Errorf("%s: a folder was made", name)
		}
	}
}
