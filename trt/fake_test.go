//go:build tensorrt && cgo && linux

package trt

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"gladd/engines/enginetest"
	"gladd/trt/trttest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	trttest.Cleanup()
	os.Exit(code)
}

// eachFake runs a test with every version that there is a fake of.
func eachFake(t *testing.T, test func(t *testing.T, library *Library)) {
	t.Helper()
	for _, fake := range trttest.All {
		t.Run(fake.Name, func(t *testing.T) { test(t, openFake(t, fake, slog.New(slog.NewTextHandler(t.Output(), nil)))) })
	}
}

func openFake(t *testing.T, fake trttest.Fake, log *slog.Logger) *Library {
	t.Helper()
	library, err := Open(Options{Library: trttest.Make(t, fake), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, library)
	return library
}

func closeAtEnd(t *testing.T, object interface{ Close() error }) {
	t.Helper()
	t.Cleanup(func() {
		if err := object.Close(); err != nil {
			t.Error(err)
		}
	})
}

func must[T any](t *testing.T) func(value T, err error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func micro(t *testing.T, name string) []byte {
	t.Helper()
	return must[[]byte](t)(os.ReadFile(filepath.Join(enginetest.Micro(t), name)))
}

// atBatches is the profile of a graph's inputs for some batches.
func atBatches(network []byte, least, best, most int64) Profile {
	profile := Profile{Ranges: map[string]Range{}}
	for name, shape := range trttest.Inputs(network) {
		profile.Ranges[name] = Range{Min: withBatch(shape, least), Opt: withBatch(shape, best), Max: withBatch(shape, most)}
	}
	return profile
}

func withBatch(shape []int64, batch int64) []int64 {
	fixed := slices.Clone(shape)
	for i := range fixed {
		if fixed[i] < 0 {
			fixed[i] = batch
		}
	}
	return fixed
}

// loaded is an engine of a graph with a context that has its memory.
type loaded struct {
	runtime *Runtime
	engine  *Engine
	context *Context
}

func load(t *testing.T, library *Library, network []byte, profiles ...Profile) loaded {
	t.Helper()
	plan := must[*Plan](t)(library.Build(t.Context(), BuildOptions{Network: network, Profiles: profiles}))
	var l loaded
	l.runtime = must[*Runtime](t)(library.NewRuntime())
	closeAtEnd(t, l.runtime)
	l.engine = must[*Engine](t)(l.runtime.Deserialize(plan.Data))
	closeAtEnd(t, l.engine)
	l.context = must[*Context](t)(l.engine.NewContext())
	closeAtEnd(t, l.context)
	if err := l.context.SetDeviceMemory(device(t, make([]byte, l.engine.DeviceMemory()+256), 256), l.engine.DeviceMemory()); err != nil {
		t.Fatal(err)
	}
	return l
}

// device is the address of memory that the fake takes for the GPU's, at a
// multiple of align.
func device[T any](t *testing.T, memory []T, align uintptr) uintptr {
	t.Helper()
	var pins runtime.Pinner
	pins.Pin(&memory[0])
	t.Cleanup(pins.Unpin)
	address := uintptr(unsafe.Pointer(&memory[0]))
	return (address + align - 1) / align * align
}

// elements is the number of elements of a shape.
func elements(shape []int64) int64 {
	n := int64(1)
	for _, size := range shape {
		n *= size
	}
	return n
}

// reference runs a graph with ONNX Runtime itself.
func reference(t *testing.T, network []byte, inputs map[string]ort.Value, outputs []string) [][]float32 {
	t.Helper()
	enginetest.Backend(t) // brings ONNX Runtime's environment up
	names := make([]string, 0, len(inputs))
	values := make([]ort.Value, 0, len(inputs))
	for name, value := range inputs {
		names, values = append(names, name), append(values, value)
	}
	session := must[*ort.DynamicAdvancedSession](t)(ort.NewDynamicAdvancedSessionWithONNXData(network, names, outputs, nil))
	results := make([]ort.Value, len(outputs))
	if err := session.Run(values, results); err != nil {
		t.Fatal(err)
	}
	floats := make([][]float32, len(outputs))
	for i, result := range results {
		floats[i] = slices.Clone(result.(*ort.Tensor[float32]).GetData())
		if err := result.Destroy(); err != nil {
			t.Error(err)
		}
	}
	if err := session.Destroy(); err != nil {
		t.Error(err)
	}
	return floats
}
