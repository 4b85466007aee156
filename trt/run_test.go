//go:build tensorrt && cgo && linux

package trt

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"

	ort "github.com/yalue/onnxruntime_go"

	"gladd/engines/enginetest"
	"gladd/trt/trttest"
)

func TestEngineTellsWhatItHolds(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		network := micro(t, "unet.onnx")
		engine := load(t, library, network, atBatches(network, 1, 1, 1), atBatches(network, 2, 3, 8)).engine
		found := map[string]Tensor{}
		for _, tensor := range engine.Tensors() {
			found[tensor.Name] = tensor
		}
		for name, shape := range trttest.Inputs(network) {
			tensor := found[name]
			wantType := "float"
			if name == "class_index" {
				wantType = "int64"
				if library.Version().Major == 8 { // has no such type
					wantType = "int32"
				}
			}
			if want := (Tensor{Name: name, Input: true, Type: wantType, Shape: shape}); !reflect.DeepEqual(tensor, want) {
				t.Errorf("want %+v, found %+v", want, tensor)
			}
			limits := must[Range](t)(engine.ProfileRange(1, name))
			if want := (Range{Min: withBatch(shape, 2), Opt: withBatch(shape, 3), Max: withBatch(shape, 8)}); !reflect.DeepEqual(limits, want) {
				t.Errorf("range of %s: want %v, found %v", name, want, limits)
			}
			delete(found, name)
		}
		if len(found) != 1 {
			t.Errorf("want one output, found %v", found)
		}
		if engine.Profiles() != 2 || engine.DeviceMemory() != 4096 {
			t.Errorf("want 2 profiles and 4096 bytes, found %d and %d", engine.Profiles(), engine.DeviceMemory())
		}
	})
}

// bound is device memory for all tensors of an engine, for one batch.
type bound struct {
	floats map[string][]float32
	ints   map[string][]int64
}

// bind sets the shapes and addresses of a batch, and fills the inputs.
func bind(t *testing.T, l loaded, batch int64) bound {
	t.Helper()
	source := rand.New(rand.NewPCG(uint64(batch), 0))
	b := bound{map[string][]float32{}, map[string][]int64{}}
	for _, tensor := range l.engine.Tensors() {
		if tensor.Input {
			if err := l.context.SetInputShape(tensor.Name, withBatch(tensor.Shape, batch)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tensor := range l.engine.Tensors() {
		shape := withBatch(tensor.Shape, batch)
		if !tensor.Input {
			if found := must[[]int64](t)(l.context.OutputShape(tensor.Name)); !slices.Equal(found, shape) {
				t.Fatalf("shape of %s: want %v, found %v", tensor.Name, shape, found)
			}
		}
		var address uintptr
		switch tensor.Type {
		case "int64", "int32":
			values, narrow := make([]int64, elements(shape)), make([]int32, elements(shape))
			for i := range values {
				values[i] = source.Int64N(2)
				narrow[i] = int32(values[i])
			}
			b.ints[tensor.Name], address = values, device(t, values, 1)
			if tensor.Type == "int32" { // 8.x narrows what the graph has in 64 bits
				address = device(t, narrow, 1)
			}
		default:
			values := make([]float32, elements(shape))
			for i := range values {
				values[i] = float32(source.NormFloat64())
			}
			b.floats[tensor.Name], address = values, device(t, values, 1)
		}
		if err := l.context.SetAddress(tensor.Name, address); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// compare checks the outputs against ONNX Runtime's own.
func compare(t *testing.T, l loaded, network []byte, b bound, batch int64) {
	t.Helper()
	enginetest.Backend(t)
	inputs := map[string]ort.Value{}
	var outputs []string
	for _, tensor := range l.engine.Tensors() {
		shape := ort.Shape(withBatch(tensor.Shape, batch))
		switch {
		case !tensor.Input:
			outputs = append(outputs, tensor.Name)
		case b.ints[tensor.Name] != nil:
			inputs[tensor.Name] = must[*ort.Tensor[int64]](t)(ort.NewTensor(shape, b.ints[tensor.Name]))
		default:
			inputs[tensor.Name] = must[*ort.Tensor[float32]](t)(ort.NewTensor(shape, b.floats[tensor.Name]))
		}
	}
	for i, want := range reference(t, network, inputs, outputs) {
		if found := b.floats[outputs[i]]; !slices.Equal(found, want) {
			t.Errorf("%s of a batch of %d: want %v ..., found %v ...", outputs[i], batch, want[:3], found[:3])
		}
	}
	for _, value := range inputs {
		if err := value.Destroy(); err != nil {
			t.Error(err)
		}
	}
}

func TestEngineComputes(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		for _, name := range []string{"unet.onnx", "vae_encoder.onnx", "dino_score.onnx"} {
			t.Run(name, func(t *testing.T) {
				network := micro(t, name)
				l := load(t, library, network, atBatches(network, 1, 1, 1), atBatches(network, 2, 3, 8))
				for _, step := range []struct {
					profile int
					batch   int64
				}{{0, 1}, {1, 3}, {1, 8}, {0, 1}} {
					if err := l.context.SetProfile(step.profile, 0); err != nil {
						t.Fatal(err)
					}
					b := bind(t, l, step.batch)
					if err := l.context.Enqueue(0); err != nil {
						t.Fatal(err)
					}
					compare(t, l, network, b, step.batch)
				}
			})
		}
	})
}

// Contexts of one engine run side by side; what one of them waits for, the other
// does not.
func TestContextsRunSideBySide(t *testing.T) {
	library := openFake(t, trttest.V10_3, nil)
	network := micro(t, "unet.onnx")
	first := load(t, library, network, atBatches(network, 1, 1, 4))
	second := first
	second.context = must[*Context](t)(first.engine.NewContext())
	closeAtEnd(t, second.context)
	if err := second.context.SetDeviceMemory(4096, 4096); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i, l := range []loaded{first, second} {
		b := bind(t, l, int64(i+2))
		group.Go(func() {
			for range 50 {
				if err := l.context.Enqueue(0); err != nil {
					t.Error(err)
				}
			}
		})
		defer compare(t, l, network, b, int64(i+2))
	}
	group.Wait()
}

func TestSteadyCallsAllocateNothing(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		network := trttest.Graph("Relu", -1, 3)
		l := load(t, library, network, atBatches(network, 1, 2, 4))
		bind(t, l, 2)
		shape := []int64{2, 3}
		in, out := device(t, make([]float32, 6), 1), device(t, make([]float32, 6), 1)
		step := func() {
			for _, err := range [...]error{
				l.context.SetInputShape("in", shape), l.context.SetAddress("in", in), l.context.SetAddress("out", out), l.context.Enqueue(0),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		step()
		before := residentBytes(t)
		if allocations := testing.AllocsPerRun(10_000, step); allocations != 0 {
			t.Errorf("want no allocations, found %v in a step", allocations)
		}
		// A leak of a hundred bytes in each of four calls would be 4 MB.
		if grown := residentBytes(t) - before; grown > 3<<20 && !sanitized {
			t.Errorf("10,000 steps took %d bytes of memory", grown)
		}
	})
}

// The bare loop does what as many calls do.
func TestRepeat(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		network := trttest.Graph("Sqrt", -1, 3)
		first, second := load(t, library, network, atBatches(network, 1, 2, 4)), load(t, library, network, atBatches(network, 1, 2, 4))
		// Each computes where it reads.
		numbers := [2][]float32{{256, 1, 0}, {0, 1 << 16, 1}}
		for i, l := range []loaded{first, second} {
			address := device(t, numbers[i], 1)
			if err := errors.Join(l.context.SetInputShape("in", []int64{1, 3}), l.context.SetAddress("in", address), l.context.SetAddress("out", address)); err != nil {
				t.Fatal(err)
			}
		}
		if err := Repeat([]*Context{first.context, second.context}, 0, 3); err != nil {
			t.Fatal(err)
		}
		if want := [2][]float32{{2, 1, 0}, {0, 4, 1}}; !slices.Equal(numbers[0], want[0]) || !slices.Equal(numbers[1], want[1]) {
			t.Errorf("three roots: want %v, found %v", want, numbers)
		}
		if err := Repeat(nil, 0, 7); err != nil {
			t.Error(err)
		}
		trttest.Fault(t, "enqueueV3=trail")
		checkCall(t, Repeat([]*Context{first.context}, 0, 1), CallError{Call: "enqueueV3", Cause: "the true cause"})
		if err := second.context.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Repeat([]*Context{first.context, second.context}, 0, 1); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed context: found %v", err)
		}
	})
}

// The work of a context is a stream's: it is done later, with the shapes and
// addresses of its own time.
func TestEnqueueGoesThroughTheStream(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		network := trttest.Graph("Neg", -1, 3)
		l := load(t, library, network, atBatches(network, 1, 2, 4))
		first := bind(t, l, 1)
		trttest.Queue(t)
		checkCall(t, l.context.Enqueue(13), CallError{Call: "enqueueV3"})
		before := slices.Clone(first.floats["out"])
		if err := l.context.Enqueue(5); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(first.floats["out"], before) {
			t.Error("the first work was done before the stream came to it")
		}
		bind(t, l, 3)
		if err := l.context.Enqueue(5); err != nil {
			t.Fatal(err)
		}
		compare(t, l, network, first, 1)
	})
}
