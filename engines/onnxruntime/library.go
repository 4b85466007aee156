package onnxruntime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Version is the version of ONNX Runtime that gladd is built and tested with.
const Version = "1.32.0"

// LibraryError says that ONNX Runtime's shared library was not found or cannot
// be used.
type LibraryError struct {
	Tried []string // where it was looked for
	Err   error    // why one that was found cannot be used; nil: none was found
}

func (e *LibraryError) Error() string {
	const advice = "run 'make setup' in gladd's source folder, or name the library of your own with --onnxruntime-library"
	if e.Err != nil {
		return fmt.Sprintf("ONNX Runtime library %s: %v; expected version %s or another with the same interface: %s",
			strings.Join(e.Tried, ", "), e.Err, Version, advice)
	}
	return fmt.Sprintf("ONNX Runtime library: not found in %s; %s", strings.Join(e.Tried, ", "), advice)
}

func (e *LibraryError) Unwrap() error { return e.Err }

// findLibrary returns the library's path: the one given or else the first in
// the usual places.
func findLibrary(given string) (string, error) {
	if given != "" {
		if _, err := os.Stat(given); err != nil {
			return "", &LibraryError{Tried: []string{given}, Err: err}
		}
		// The loader looks for a name without a slash in the system instead.
		return filepath.Abs(given)
	}
	folders := libraryFolders()
	for _, folder := range folders {
		if path := libraryIn(folder); path != "" {
			return path, nil
		}
	}
	return "", &LibraryError{Tried: folders}
}

// libraryFolders are the usual places, those beside the program before the
// system's.
func libraryFolders() []string {
	var folders []string
	if program, err := os.Executable(); err == nil {
		if resolved, err := filepath.EvalSymlinks(program); err == nil {
			program = resolved
		}
		folder := filepath.Dir(program)
		folders = append(folders, filepath.Join(folder, "..", "lib"), folder)
	}
	return append(folders, "/usr/local/lib/gladd", "/usr/lib/gladd", "/usr/local/lib", "/usr/lib")
}

// libraryIn returns the library's path in a folder; empty: it is not there.
func libraryIn(folder string) string {
	for _, name := range []string{"libonnxruntime.so." + Version, "libonnxruntime.so.1", "libonnxruntime.so"} {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}
