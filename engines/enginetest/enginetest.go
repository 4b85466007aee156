// Package enginetest helps tests with bundles: where they are, copies of them
// with something changed, and the library that runs them.
package enginetest

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gladd/engines"
	"gladd/engines/onnxruntime"
)

// TinyA is the folder of the golden bundle, with values of the official code.
func TinyA(t testing.TB) string { return Path(t, "testdata/golden/tiny-a") }

// Micro is the folder of the micro bundle: a posterior, two classes, a map of
// another size than the picture, decodes beyond [-1,1].
func Micro(t testing.TB) string { return Path(t, "testdata/micro") }

// Path returns the absolute path of a file of the repository.
func Path(t testing.TB, relative string) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return filepath.Join(folder, relative)
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			t.Fatal("no go.mod above the test's folder")
		}
		folder = parent
	}
}

// Library is the path of ONNX Runtime's library.
func Library(t testing.TB) string {
	t.Helper()
	library := os.Getenv("GLADD_ONNXRUNTIME_LIBRARY")
	if library == "" {
		library = Path(t, "lib/libonnxruntime.so."+onnxruntime.Version)
	}
	if _, err := os.Stat(library); err != nil {
		t.Fatalf("ONNX Runtime's library is missing, run 'make setup': %v", err)
	}
	return library
}

// Backend is ONNX Runtime, closed when the test ends.
func Backend(t testing.TB) *onnxruntime.Backend {
	t.Helper()
	backend, err := onnxruntime.New(onnxruntime.Options{Library: Library(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	return backend
}

// Load loads a bundle.
func Load(t testing.TB, dir string) *engines.Bundle {
	t.Helper()
	bundle, err := engines.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// Copy copies a bundle's manifest and graphs to a folder of the test's.
func Copy(t testing.TB, bundle string) string {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(bundle)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); strings.HasSuffix(name, ".onnx") || name == engines.ManifestFile {
			WriteFile(t, filepath.Join(dir, name), ReadFile(t, filepath.Join(bundle, name)))
		}
	}
	return dir
}

// Edit replaces a text that the manifest holds once.
func Edit(t testing.TB, dir, old, replacement string) {
	t.Helper()
	path := filepath.Join(dir, engines.ManifestFile)
	text := string(ReadFile(t, path))
	if count := strings.Count(text, old); count != 1 {
		t.Fatalf("%q stands %d times in %s", old, count, path)
	}
	WriteFile(t, path, []byte(strings.Replace(text, old, replacement, 1)))
}

// ReplaceGraph puts another file in the place of a graph and gives the
// manifest its digest.
func ReplaceGraph(t testing.TB, dir string, graph engines.GraphName, content []byte) {
	t.Helper()
	WriteFile(t, filepath.Join(dir, string(graph)+".onnx"), content)
	path := filepath.Join(dir, engines.ManifestFile)
	digest := regexp.MustCompile(`(` + string(graph) + `\.onnx"?,?\s*"?sha256"?: "?)[0-9a-f]{64}`)
	manifest := ReadFile(t, path)
	if !digest.Match(manifest) {
		t.Fatalf("no digest of %s in %s", graph, path)
	}
	WriteFile(t, path, digest.ReplaceAll(manifest, []byte("${1}"+Digest(content))))
}

// ReadFile reads a file.
func ReadFile(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// WriteFile writes a file.
func WriteFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Digest is the hex SHA-256 of a file's content.
func Digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
