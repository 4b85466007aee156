package onnxruntime_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"gladd/engines/enginetest"
	"gladd/engines/onnxruntime"
)

func TestLibrary(t *testing.T) {
	text := filepath.Join(t.TempDir(), "libonnxruntime.so")
	enginetest.WriteFile(t, text, []byte("no library"))
	for name, test := range map[string]struct{ library, want string }{
		"absent":         {"/nowhere/libonnxruntime.so", "no such file or directory"},
		"no library":     {text, "file too short"},
		"another one":    {"libc", "OrtGetApiBase"},
		"nothing beside": {"", "not found in "},
	} {
		t.Run(name, func(t *testing.T) {
			library := test.library
			if library == "libc" {
				matches, err := filepath.Glob("/lib/*-linux-gnu/libm.so.6")
				if err != nil || len(matches) == 0 {
					t.Skip("no libm to try it with")
				}
				library = matches[0]
			}
			_, err := onnxruntime.New(onnxruntime.Options{Library: library})
			var libraryError *onnxruntime.LibraryError
			if !errors.As(err, &libraryError) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "make setup") {
				t.Errorf("want a LibraryError with %q and what to do, found %v", test.want, err)
			}
		})
	}
}

func TestSecondLibraryInOneProcess(t *testing.T) {
	enginetest.Backend(t)
	_, err := onnxruntime.New(onnxruntime.Options{Library: "/etc/hostname"})
	if err == nil || !strings.Contains(err.Error(), "this process runs ") {
		t.Errorf("found %v", err)
	}
}

func TestThreadsOutOfRange(t *testing.T) {
	for _, threads := range []int{-1, 257, 1_000_000} {
		want := fmt.Sprintf("ONNX Runtime threads: expected 0 (as many as there are processors) to 256, found %d", threads)
		if _, err := onnxruntime.New(onnxruntime.Options{Threads: threads}); err == nil || err.Error() != want {
			t.Errorf("want %q, found %v", want, err)
		}
	}
}
