//go:build tensorrt && cgo && linux

package trt

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gladd/engines/enginetest"
	"gladd/trt/trttest"
)

func TestOpen(t *testing.T) {
	for _, fake := range trttest.All {
		t.Run(fake.Name, func(t *testing.T) {
			path := trttest.Make(t, fake)
			for _, options := range []Options{{Library: path}, {Folders: []string{filepath.Dir(path)}}} {
				library := must[*Library](t)(Open(options))
				if library.Path() != path || library.Version() != decodeVersion(fake.Number) {
					t.Errorf("want %s of %s, found %s of %s", path, decodeVersion(fake.Number), library.Path(), library.Version())
				}
				if err := library.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if !Built {
		t.Error("Built: want true")
	}
}

func TestOpenErrors(t *testing.T) {
	text := filepath.Join(t.TempDir(), "libnvinfer.so.10")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	foreign := filepath.Join(t.TempDir(), "libnvinfer.so.10")
	data := enginetest.ReadFile(t, trttest.Make(t, trttest.V10_3))
	data[18], data[19] = byte(elf.EM_S390), 0
	enginetest.WriteFile(t, foreign, data)
	for _, test := range []struct {
		name    string
		options Options
		version int // of getInferLibVersion; 0: none
		want    string
	}{
		{"nothing there", Options{Folders: []string{empty}}, 0, "not found in " + empty},
		{"no such file", Options{Library: "/no/such/libnvinfer.so.10"}, 0, "/no/such/libnvinfer.so.10: cannot open shared object file"},
		{"no library", Options{Library: text}, 0, "TensorRT library " + text + ": file too short; "},
		{"a folder", Options{Library: empty}, 0, empty + ": is a folder, expected the library's file in it"},
		{"another processor's", Options{Library: foreign}, 0, foreign + ": is for EM_S390; this machine is "},
		{"no library in a folder", Options{Folders: []string{filepath.Dir(text)}}, 0, text},
		{"another library", Options{Library: enginetest.Library(t)}, 0, "it has no function getInferLibVersion: this is not TensorRT"},
		{"too old", Options{Library: trttest.Make(t, trttest.V10_3.Numbered(8401))}, 8401, "expected TensorRT 10.x, 11.x or TensorRT for RTX 1.6, found TensorRT 8.4.1"},
		{"too new", Options{Library: trttest.Make(t, trttest.V11_1.Numbered(120000))}, 120000, "found TensorRT 12.0.0"},
		{"another RTX", Options{Folders: []string{empty, filepath.Dir(trttest.Make(t, trttest.RTX.Numbered(10300)))}}, 10300, "found TensorRT for RTX 1.3.0, whose interface differs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Open(test.options)
			var found *LibraryError
			if !errors.As(err, &found) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("want a LibraryError with %q, found %v", test.want, err)
			}
			if test.version != 0 && found.Version != decodeVersion(test.version) {
				t.Errorf("version: want %v, found %v", decodeVersion(test.version), found.Version)
			}
			if !strings.HasSuffix(err.Error(), "; install TensorRT, or name its library with --tensorrt-library or in the configuration") {
				t.Errorf("want advice, found %v", err)
			}
		})
	}
}

// A library that cannot be used does not hide one that can.
func TestOpenGoesOnSearching(t *testing.T) {
	good := trttest.Make(t, trttest.V10_3)
	library := must[*Library](t)(Open(Options{Folders: []string{filepath.Dir(trttest.Make(t, trttest.V11_1.Numbered(120000))), filepath.Dir(good)}}))
	closeAtEnd(t, library)
	if library.Path() != good {
		t.Errorf("want %s, found %s", good, library.Path())
	}
}

// Who builds misses the parser when the library is opened; who only runs engines does not.
func TestMissingParser(t *testing.T) {
	const parser = "/no/such/libnvonnxparser.so.10"
	path := trttest.Make(t, trttest.V10_3)
	check := func(err error) {
		t.Helper()
		var found *LibraryError
		var missing *ParserError
		if !errors.As(err, &found) || found.Version == (Version{}) || !errors.As(err, &missing) || !missing.Missing ||
			!strings.HasPrefix(err.Error(), "TensorRT's ONNX parser, which building engines needs, is missing, looked for as "+parser+"; install the parser of TensorRT 10.3.0 beside "+path) {
			t.Errorf("want a LibraryError of the parser, found %v", err)
		}
	}
	_, err := Open(Options{Library: path, ParserLibrary: parser})
	check(err)
	library := must[*Library](t)(Open(Options{Library: path, ParserLibrary: parser, RuntimeOnly: true}))
	closeAtEnd(t, library)
	closeAtEnd(t, must[*Runtime](t)(library.NewRuntime()))
	_, err = library.Build(t.Context(), BuildOptions{Network: trttest.Graph("Relu", 1)})
	check(err)
}

// A library without what building needs does not hide one that has it.
func TestOpenWantsWhatBuilds(t *testing.T) {
	lean, alone, good := trttest.Lean(t, trttest.V11_1), trttest.WithoutParser(t, trttest.V11_1), trttest.Make(t, trttest.V10_3)
	_, err := Open(Options{Library: lean})
	var only *RuntimeOnlyError
	if !errors.As(err, &only) || !strings.Contains(err.Error(), lean+": it is runtime only") || !strings.Contains(err.Error(), "name libnvinfer.so.11 instead") {
		t.Errorf("want it refused as runtime only, found %v", err)
	}
	_, err = Open(Options{Folders: []string{filepath.Dir(alone)}})
	var parser *ParserError
	if !errors.As(err, &parser) || !parser.Missing || parser.Library != alone {
		t.Errorf("want the parser missed, found %v", err)
	}
	library := must[*Library](t)(Open(Options{Folders: []string{filepath.Dir(alone), filepath.Dir(good)}}))
	closeAtEnd(t, library)
	if library.Path() != good {
		t.Errorf("want %s, found %s", good, library.Path())
	}
}
