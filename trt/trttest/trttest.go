// Package trttest makes fakes of TensorRT for tests on machines without a GPU:
// shared libraries whose engines run their ONNX graph with ONNX Runtime. They
// are compiled by $CXX, or g++, with TensorRT's own headers, which
// scripts/tensorrt-headers.sh fetches.
package trttest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"gladd/engines/enginetest"
)

// Fake is one version of TensorRT that can be made.
type Fake struct {
	Name    string
	Number  int    // as getInferLibVersion gives it
	headers string // folder in lib/tensorrt-headers
	abi     int    // FAKE_ABI
	library string
	parser  string
}

// The fakes. Those of 10.x differ in the functions that they have.
var (
	V10_0 = Fake{"10.0.1", 100001, "10", 10, "libnvinfer.so.10", "libnvonnxparser.so.10"}
	V10_3 = Fake{"10.3.0", 100300, "10", 10, "libnvinfer.so.10", "libnvonnxparser.so.10"}
	V11_1 = Fake{"11.1.0", 110100, "11", 11, "libnvinfer.so.11", "libnvonnxparser.so.11"}
	RTX   = Fake{"rtx 1.6.1", 10601, "rtx", 1, "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"}
)

// All are the fakes that tests go through.
var All = []Fake{V10_0, V10_3, V11_1, RTX}

// made holds what was compiled in this process: objects by their headers, and
// libraries by their version.
var made = struct {
	sync.Mutex
	folder    string
	objects   map[string]string
	libraries map[Fake]string
}{objects: map[string]string{}, libraries: map[Fake]string{}}

// Make compiles a fake and its parser, once in a process, and returns the
// library's path. The environment is set for it until the test ends.
func Make(t testing.TB, fake Fake) (library string) {
	t.Helper()
	t.Setenv("FAKE_TRT_ONNXRUNTIME", enginetest.Library(t))
	made.Lock()
	defer made.Unlock()
	if library := made.libraries[fake]; library != "" {
		return library
	}
	object := compile(t, fake)
	folder := filepath.Join(made.folder, fmt.Sprint(fake.Number))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	// The loader knows libraries by what they call themselves: without a name, each
	// file is a library of its own.
	version := filepath.Join(folder, "version.o")
	compiler(t, "-fPIC", fmt.Sprintf("-DFAKE_VERSION=%d", fake.Number), "-c", source("version.cpp"), "-o", version)
	for _, name := range []string{fake.library, fake.parser} {
		compiler(t, "-shared", object, version, "-ldl", "-o", filepath.Join(folder, name))
	}
	made.libraries[fake] = filepath.Join(folder, fake.library)
	return made.libraries[fake]
}

// WithoutParser is a copy of a fake that has no parser beside it.
func WithoutParser(t testing.TB, fake Fake) (library string) {
	t.Helper()
	library = filepath.Join(t.TempDir(), fake.library)
	enginetest.WriteFile(t, library, enginetest.ReadFile(t, Make(t, fake)))
	return library
}

// Lean is a fake that runs engines and builds none, as libnvinfer_lean.
func Lean(t testing.TB, fake Fake) (library string) {
	t.Helper()
	whole := Make(t, fake)
	library = filepath.Join(t.TempDir(), strings.Replace(fake.library, ".so", "_lean.so", 1))
	data := enginetest.ReadFile(t, whole)
	// The loader finds symbols by a hash of their names: one letter less is enough for it
	// to find none, and the file stays as long as it was.
	data = bytes.ReplaceAll(data, []byte("createInferBuilder_INTERNAL"), []byte("_reateInferBuilder_INTERNAL"))
	enginetest.WriteFile(t, library, data)
	return library
}

// Queue makes what the fakes enqueue wait for the next that is enqueued, until
// the test ends; on stream 13 all fails. It stands for a CUDA stream where there
// is no fake CUDA.
func Queue(t testing.TB) {
	t.Helper()
	library := filepath.Join(t.TempDir(), "queue.so")
	compiler(t, "-shared", "-fPIC", source("queue.cpp"), "-o", library)
	t.Setenv("FAKE_TRT_CUDA", library)
}

// Numbered is a fake that states another version than its interface has, as
// getInferLibVersion gives it.
func (f Fake) Numbered(number int) Fake {
	f.Number = number
	return f
}

// Fault makes functions of the fakes fail until the test ends; kinds are
// described in fake/graph.hpp. An empty text ends all faults.
func Fault(t testing.TB, faults string) {
	t.Helper()
	t.Setenv("FAKE_TRT_FAULT", faults)
}

func source(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "fake", name)
}

func compile(t testing.TB, fake Fake) string {
	t.Helper()
	if object := made.objects[fake.headers]; object != "" {
		return object
	}
	var includes []string
	if fake.headers == "8" {
		for _, folder := range filepath.SplitList(os.Getenv("GLADD_TENSORRT8_HEADERS")) {
			includes = append(includes, "-I", folder)
		}
	} else {
		headers := enginetest.Path(t, filepath.Join("lib", "tensorrt-headers", fake.headers))
		if _, err := os.Stat(headers); err != nil {
			t.Fatalf("TensorRT's headers are missing, run scripts/tensorrt-headers.sh: %v", err)
		}
		includes = []string{"-I", headers}
	}
	if made.folder == "" {
		folder, err := os.MkdirTemp("", "trttest")
		if err != nil {
			t.Fatal(err)
		}
		made.folder = folder
	}
	object := filepath.Join(made.folder, fake.headers+".o")
	cuda := filepath.Dir(filepath.Dir(filepath.Dir(source("fake.cpp")))) // trt, which has cuda_runtime_api.h
	onnxruntime := strings.TrimSpace(run(t, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go"))
	// Hidden, since static variables of inline functions are shared by all
	// libraries of a process that show them.
	compiler(t, append(includes, "-std=c++17", "-fPIC", "-fvisibility=hidden", "-O1", "-g", "-w", fmt.Sprintf("-DFAKE_ABI=%d", fake.abi),
		"-I", cuda, "-I", onnxruntime, "-c", source("fake.cpp"), "-o", object)...)
	made.objects[fake.headers] = object
	return object
}

// compiler runs the compiler that cgo uses, so that the fakes are for the
// processor that the tests are for.
func compiler(t testing.TB, arguments ...string) {
	t.Helper()
	command := strings.Fields(os.Getenv("CXX"))
	if len(command) == 0 {
		command = []string{"g++"}
	}
	run(t, command[0], append(command[1:], arguments...)...)
}

func run(t testing.TB, name string, arguments ...string) string {
	t.Helper()
	output, err := exec.Command(name, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, output)
	}
	return string(output)
}

// Cleanup removes what was compiled. Call it after the tests; what is made after it is
// compiled again.
func Cleanup() {
	made.Lock()
	defer made.Unlock()
	if made.folder != "" {
		_ = os.RemoveAll(made.folder)
	}
	made.folder, made.objects, made.libraries = "", map[string]string{}, map[Fake]string{}
}
