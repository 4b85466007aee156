//go:build linux && cgo

// Package cudatest makes a fake CUDA driver for tests: a libcuda.so.1 that is
// built by the system's C compiler and behaves like a small one. Its device
// memory is the computer's; the work of a stream is done when the stream, or an
// event behind the work, is waited for; cuStreamQuery does one piece of it. It
// checks addresses and handles, keeps page-locked memory and device memory
// apart, and refuses what would spoil a capture.
//
// Another fake library works with it by functions that it exports, found by
// dlsym in [Fake.Path]:
//
//	int fake_cuda_enqueue(void *stream, void (*run)(void *), void *argument, void (*drop)(void *));
//	int fake_cuda_valid(const void *address, size_t bytes);
package cudatest

// #cgo CFLAGS: -D_GNU_SOURCE
// #cgo LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stdlib.h>
//
// static int call_fail(void *f, const char *symbol, int code, int after, int times) { return ((int (*)(const char *, int, int, int))f)(symbol, code, after, times); }
// static int call_set(void *f, const char *key, long long value) { return ((int (*)(const char *, long long))f)(key, value); }
// static void call_text(void *f, const char *text) { ((void (*)(const char *))f)(text); }
// static void call_nothing(void *f) { ((void (*)(void))f)(); }
// static long long call_get(void *f, const char *key) { return ((long long (*)(const char *))f)(key); }
// static int call_valid(void *f, size_t address, size_t bytes) { return ((int (*)(const void *, size_t))f)((const void *)address, bytes); }
//
// // struct mallinfo2 and its function, which glibc has since 2.33.
// struct heap { size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost; };
// static long long heap_bytes(void)
// {
// 	struct heap (*ask)(void);
// 	*(void **)&ask = dlsym(RTLD_DEFAULT, "mallinfo2");
// 	if (ask == NULL)
// 		return 0;
// 	struct heap heap = ask();
// 	return (long long)(heap.uordblks + heap.hblkhd);
// }
// struct bytes { unsigned char *first; size_t count; };
// static void increment(void *argument) { struct bytes *b = argument; for (size_t i = 0; i < b->count; i++) b->first[i]++; }
// static int call_increment(void *f, size_t stream, size_t address, size_t count)
// {
// 	struct bytes *bytes = malloc(sizeof *bytes);
// 	*bytes = (struct bytes){(unsigned char *)address, count};
// 	return ((int (*)(void *, void (*)(void *), void *, void (*)(void *)))f)((void *)stream, increment, bytes, free);
// }
import "C"

import (
	"embed"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

//go:embed testdata/*.c testdata/*.h
var source embed.FS

// Option changes the fake.
type Option func(*options)

type options struct{ without []string }

// Without leaves a symbol out of the library, as an older driver does.
func Without(symbol string) Option {
	return func(o *options) { o.without = append(o.without, symbol) }
}

// Fake is one fake driver. Each has devices, faults and counts of its own.
type Fake struct {
	// Path is the library's. It is removed when the test ends, but stays mapped.
	Path string

	t      testing.TB
	handle unsafe.Pointer
}

// built holds the built libraries by the symbols that they lack: one build
// serves all tests of a binary.
var built = struct {
	sync.Mutex
	libraries map[string][]byte
}{libraries: map[string][]byte{}}

// Library makes a fake driver with one device: an "Fake Orin" with 64 MiB,
// compute capability 8.7 and CUDA 12.4.
func Library(t testing.TB, options ...Option) *Fake {
	t.Helper()
	path := filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(path, build(t, options), 0o755); err != nil {
		t.Fatal(err)
	}
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	handle := C.dlopen(name, C.RTLD_NOW|C.RTLD_LOCAL)
	if handle == nil {
		t.Fatalf("fake CUDA driver: %s", C.GoString(C.dlerror()))
	}
	return &Fake{Path: path, t: t, handle: handle}
}

func build(t testing.TB, wanted []Option) []byte {
	t.Helper()
	var chosen options
	for _, option := range wanted {
		option(&chosen)
	}
	slices.Sort(chosen.without)
	key := strings.Join(chosen.without, " ")

	built.Lock()
	defer built.Unlock()
	if library, found := built.libraries[key]; found {
		return library
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, source); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "testdata", "*.c"))
	if err != nil {
		t.Fatal(err)
	}
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	library := filepath.Join(dir, "libcuda.so.1")
	arguments := append(strings.Fields(compiler), "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall",
		"-shared", "-fPIC", "-pthread", "-Wl,-z,defs", "-o", library)
	for _, symbol := range chosen.without {
		arguments = append(arguments, "-D"+symbol+"=without_"+symbol)
	}
	arguments = append(arguments, files...)
	if output, err := exec.Command(arguments[0], arguments[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("fake CUDA driver: %v\n%s", err, output)
	}
	content, err := os.ReadFile(library)
	if err != nil {
		t.Fatal(err)
	}
	built.libraries[key] = content
	return content
}

// function finds an exported function of the fake.
func (f *Fake) function(name string) unsafe.Pointer {
	f.t.Helper()
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	found := C.dlsym(f.handle, text)
	if found == nil {
		f.t.Fatalf("fake CUDA driver: no function %s", name)
	}
	return found
}

// Always and Never are numbers of failures for [Fake.FailAfter].
const (
	Always = -1
	Never  = 0
)

// Fail lets the next call of the symbol fail with the code, a CUresult.
func (f *Fake) Fail(symbol string, code int) {
	f.t.Helper()
	f.FailAfter(symbol, code, 0, 1)
}

// FailAfter lets calls of the symbol fail with the code so many times, after
// as many that succeed. It replaces what was set for the symbol.
func (f *Fake) FailAfter(symbol string, code, after, times int) {
	f.t.Helper()
	if times == Never {
		code = 0
	}
	text := C.CString(symbol)
	defer C.free(unsafe.Pointer(text))
	if C.call_fail(f.function("fake_cuda_fail"), text, C.int(code), C.int(after), C.int(times)) != 0 {
		f.t.Fatalf("fake CUDA driver: no room for a fault of %s", symbol)
	}
}

// Set gives a value of the driver or its devices: device_count (up to 8),
// driver_version, memory_bytes and pinned_bytes (what there is), compute_major,
// compute_minor, multiprocessors, integrated, uuid (the devices' second half; 0: as it
// is), misaligned (1: addresses are not aligned).
func (f *Fake) Set(key string, value int) {
	f.t.Helper()
	text := C.CString(key)
	defer C.free(unsafe.Pointer(text))
	if C.call_set(f.function("fake_cuda_set"), text, C.longlong(value)) != 0 {
		f.t.Fatalf("fake CUDA driver: no value %s", key)
	}
}

// SetName names the devices.
func (f *Fake) SetName(name string) {
	f.t.Helper()
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	C.call_text(f.function("fake_cuda_set_name"), text)
}

// Hang lets calls of the symbol wait until Release. The test's end releases
// them, too.
func (f *Fake) Hang(symbol string) {
	f.t.Helper()
	text := C.CString(symbol)
	defer C.free(unsafe.Pointer(text))
	C.call_text(f.function("fake_cuda_hang"), text)
	f.t.Cleanup(f.Release)
}

// AwaitHang waits until a call hangs.
func (f *Fake) AwaitHang() {
	f.t.Helper()
	C.call_nothing(f.function("fake_cuda_await_hang"))
}

// Release lets the calls that hang go on.
func (f *Fake) Release() {
	f.t.Helper()
	text := C.CString("")
	defer C.free(unsafe.Pointer(text))
	C.call_text(f.function("fake_cuda_hang"), text)
}

// Count is what lives in the fake: streams, events, graphs, executables,
// retained (contexts), pending (work of streams), operations (work of streams
// and graphs), device_blocks, device_bytes, pinned_blocks, pinned_bytes; and
// calls, all that were made, and hanging, those that hang.
func (f *Fake) Count(key string) int {
	f.t.Helper()
	text := C.CString(key)
	defer C.free(unsafe.Pointer(text))
	count := int(C.call_get(f.function("fake_cuda_get"), text))
	if count < 0 {
		f.t.Fatalf("fake CUDA driver: no count %s", key)
	}
	return count
}

// Valid reports whether all the bytes lie in one memory of a device.
func (f *Fake) Valid(address uintptr, bytes int) bool {
	f.t.Helper()
	return C.call_valid(f.function("fake_cuda_valid"), C.size_t(address), C.size_t(bytes)) != 0
}

// Increment enqueues work in the stream that adds 1 to each byte of a device's
// memory: the least that shows how often a graph ran. It returns a CUresult.
func (f *Fake) Increment(stream, address uintptr, bytes int) int {
	f.t.Helper()
	return int(C.call_increment(f.function("fake_cuda_enqueue"), C.size_t(stream), C.size_t(address), C.size_t(bytes)))
}

// Live are the counts that are not 0 of everything that a closed device must
// not leave.
func (f *Fake) Live() map[string]int {
	f.t.Helper()
	live := map[string]int{}
	for _, key := range []string{"streams", "events", "graphs", "executables", "retained", "operations", "device_blocks", "pinned_blocks"} {
		if count := f.Count(key); count != 0 {
			live[key] = count
		}
	}
	return live
}

// HeapBytes is what the process has allocated by C's malloc now; 0 where the C
// library does not say.
func HeapBytes() int { return int(C.heap_bytes()) }
