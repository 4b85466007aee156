//go:build tensorrt && cgo && linux

package trt

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"

	"gladd/trt/trttest"
)

func residentBytes(t *testing.T) int {
	t.Helper()
	fields := strings.Fields(string(must[[]byte](t)(os.ReadFile("/proc/self/statm"))))
	return must[int](t)(strconv.Atoi(fields[1])) * os.Getpagesize()
}

// Each fault of TensorRT is the error of the call that met it, with its cause.
func TestRuntimeErrors(t *testing.T) {
	const nothing = "TensorRT gave no reason"
	eachFake(t, func(t *testing.T, library *Library) {
		for _, test := range []struct{ name, fault, call, cause string }{
			{"garbage for a runtime", "createInferRuntime=garbage", "createInferRuntime_INTERNAL", nothing},
			{"null for a runtime", "createInferRuntime=null", "createInferRuntime_INTERNAL", nothing},
			{"an exception", "createInferRuntime=throw", "an unknown function", "TensorRT threw an exception: the fake's exception"},
			{"the first error is the cause", "createInferRuntime=trail", "createInferRuntime_INTERNAL", "the true cause"},
		} {
			t.Run(test.name, func(t *testing.T) {
				trttest.Fault(t, test.fault)
				_, err := library.NewRuntime()
				checkCall(t, err, CallError{Call: test.call, Cause: test.cause})
			})
		}
	})
}

func checkCall(t *testing.T, err error, want CallError) {
	t.Helper()
	var found *CallError
	if !errors.As(err, &found) {
		t.Fatalf("want a CallError, found %v", err)
	}
	if found.Call != want.Call || found.Object != want.Object || !strings.Contains(found.Cause, want.Cause) {
		t.Errorf("want %+v, found %+v", want, *found)
	}
}

func TestPlanErrors(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		network := trttest.Graph("Relu", -1, 3)
		plan := must[*Plan](t)(library.Build(t.Context(), BuildOptions{Network: network, Profiles: []Profile{atBatches(network, 1, 2, 4)}})).Data
		runtime := must[*Runtime](t)(library.NewRuntime())
		closeAtEnd(t, runtime)
		other := bytes.Clone(plan)
		other[len("fake TensorRT plan\n")]++ // the version's lowest byte
		for _, test := range []struct {
			name, fault, gpu string
			plan             []byte
			want             PlanError
		}{
			{name: "empty", plan: nil, want: PlanError{ReasonCorrupt, "the plan is empty"}},
			{name: "no plan", plan: bytes.Repeat([]byte("gladd"), 20), want: PlanError{ReasonCorrupt, "header.magicTag"}},
			{name: "truncated", plan: plan[:len(plan)-1], want: PlanError{ReasonCorrupt, "truncated"}},
			{name: "another version", plan: other, want: PlanError{ReasonVersion, "expecting library version"}},
			{name: "another GPU", plan: plan, gpu: "8.6", want: PlanError{ReasonGPU, "expecting compute 8.6 got compute 8.7"}},
			{name: "out of memory", plan: plan, fault: "deserializeCudaEngine=memory", want: PlanError{ReasonMemory, "out of memory"}},
			{name: "garbage", plan: plan, fault: "deserializeCudaEngine=garbage", want: PlanError{ReasonOther, "no reason"}},
			{name: "null", plan: plan, fault: "deserializeCudaEngine=null", want: PlanError{ReasonOther, "no reason"}},
			{name: "a trail", plan: plan, fault: "deserializeCudaEngine=trail", want: PlanError{ReasonOther, "the true cause"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				trttest.Fault(t, test.fault)
				if test.gpu != "" {
					t.Setenv("FAKE_TRT_GPU", test.gpu)
				}
				_, err := runtime.Deserialize(test.plan)
				var found *PlanError
				if !errors.As(err, &found) {
					t.Fatalf("want a PlanError, found %v", err)
				}
				if found.Reason != test.want.Reason || !strings.Contains(found.Cause, test.want.Cause) {
					t.Errorf("want %+v, found %+v", test.want, *found)
				}
			})
		}
		for _, test := range []struct {
			fault string
			want  CallError
		}{
			{"getNbIOTensors=false", CallError{Call: "getNbIOTensors"}},
			{"getIOTensorName=null", CallError{Call: "getIOTensorName"}},
			{"getTensorLocation=host", CallError{Call: "getTensorLocation", Object: "in", Cause: "expected a tensor in device memory"}},
		} {
			t.Run(test.fault, func(t *testing.T) {
				trttest.Fault(t, test.fault)
				_, err := runtime.Deserialize(plan)
				checkCall(t, err, test.want)
			})
		}
	})
}

func TestContextErrors(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		network := trttest.Graph("Relu", -1, 3)
		l := load(t, library, network, atBatches(network, 1, 2, 4))
		c := l.context
		address := device(t, make([]float32, 12), 1)
		bare := must[*Context](t)(l.engine.NewContext())
		closeAtEnd(t, bare)
		for _, test := range []struct {
			name, fault string
			do          func() error
			want        CallError
		}{
			{"no memory", "", func() error { return bare.Enqueue(0) }, CallError{"enqueueV3", "", "device memory is not set"}},
			{"too little memory", "", func() error { return bare.SetDeviceMemory(4096, 4095) },
				CallError{"setDeviceMemory", "", "expected at least 4096 bytes at a multiple of 256, found 4095 bytes at 0x1000"}},
			{"memory at an odd address", "", func() error { return bare.SetDeviceMemory(4097, 8192) }, CallError{"setDeviceMemory", "", "found 8192 bytes at 0x1001"}},
			{"memory is refused", "setDeviceMemory=trail", func() error { return c.SetDeviceMemory(4096, 8192) }, CallError{"setDeviceMemory", "", "the true cause"}},
			{"no such input", "", func() error { return c.SetInputShape("sample", []int64{1}) },
				CallError{"setInputShape", "sample", "expected one of the engine's tensors [in out], found none of this name"}},
			{"no such tensor", "", func() error { return c.SetAddress("sample", address) }, CallError{"setTensorAddress", "sample", "[in out]"}},
			{"an output's shape", "", func() error { return c.SetInputShape("out", []int64{1, 3}) }, CallError{"setInputShape", "out", ""}},
			{"beyond the profile", "", func() error { return c.SetInputShape("in", []int64{5, 3}) }, CallError{"setInputShape", "in", "not in the range of profile 0"}},
			{"too many dimensions", "", func() error { return c.SetInputShape("in", make([]int64, 9)) }, CallError{"setInputShape", "in", "expected at most 8 dimensions, found 9"}},
			{"shape is not set", "", func() error { _, err := c.OutputShape("out"); return err }, CallError{"getTensorShape", "out", "[-1 3] is not determined"}},
			{"shape is not known", "getTensorShape=false", func() error { _, err := c.OutputShape("out"); return err }, CallError{"getTensorShape", "out", ""}},
			{"enqueue without a shape", "", func() error { return c.Enqueue(0) }, CallError{"enqueueV3", "", "the shape of in is not set"}},
			{"null address", "", func() error { return c.SetAddress("in", 0) }, CallError{"setTensorAddress", "in", ""}},
			{"no such profile", "", func() error { return c.SetProfile(1, 0) }, CallError{"setOptimizationProfileAsync", "", "expected a profile of 0 to 0, found 1"}},
			{"profile is refused", "setOptimizationProfileAsync=trail", func() error { return c.SetProfile(0, 0) }, CallError{"setOptimizationProfileAsync", "", "the true cause"}},
			{"enqueue fails", "enqueueV3=false", func() error { return c.Enqueue(0) }, CallError{"enqueueV3", "", "TensorRT gave no reason"}},
			{"no context", "createExecutionContext=garbage", func() error { _, err := l.engine.NewContext(); return err }, CallError{"createExecutionContext", "", ""}},
			{"no range", "", func() error { _, err := l.engine.ProfileRange(0, "out"); return err }, CallError{"getProfileShape", "out", "no such input"}},
			{"range of no profile", "", func() error { _, err := l.engine.ProfileRange(1, "in"); return err }, CallError{"getProfileShape", "in", "expected a profile of 0 to 0"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				trttest.Fault(t, test.fault)
				checkCall(t, test.do(), test.want)
			})
		}
	})
}

// An engine lives as long as its contexts, a runtime as long as its engines.
func TestClosing(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		network := trttest.Graph("Relu", -1, 3)
		l := load(t, library, network, atBatches(network, 1, 2, 4))
		bind(t, l, 2)
		for _, object := range []interface{ Close() error }{library, l.runtime, l.engine} {
			for range 2 {
				if err := object.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := l.context.Enqueue(0); err != nil {
			t.Errorf("the engine of an open context was freed: %v", err)
		}
		for range 2 {
			if err := l.context.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for _, test := range []struct {
			want string
			do   func() error
		}{
			{"library", func() error { _, err := library.Build(t.Context(), BuildOptions{Network: network}); return err }},
			{"library", func() error { _, err := library.NewRuntime(); return err }},
			{"runtime", func() error { _, err := l.runtime.Deserialize(nil); return err }},
			{"engine", func() error { _, err := l.engine.NewContext(); return err }},
			{"engine", func() error { _, err := l.engine.ProfileRange(0, "in"); return err }},
			{"context", func() error { return l.context.Enqueue(0) }},
			{"context", func() error { return l.context.SetInputShape("in", []int64{1, 3}) }},
			{"context", func() error { return l.context.SetAddress("in", 4096) }},
			{"context", func() error { return l.context.SetProfile(0, 0) }},
			{"context", func() error { return l.context.SetDeviceMemory(4096, 4096) }},
			{"context", func() error { _, err := l.context.OutputShape("out"); return err }},
		} {
			if err, want := test.do(), "TensorRT "+test.want+": it is closed"; !errors.Is(err, ErrClosed) || err.Error() != want {
				t.Errorf("want %q, found %v", want, err)
			}
		}
	})
}

// A hundred thousand lines leave the last that were not read lost, and told of.
func TestLogFlood(t *testing.T) {
	for _, fake := range trttest.All {
		t.Run(fake.Name, func(t *testing.T) {
			var log bytes.Buffer
			library := openFake(t, fake, slog.New(slog.NewTextHandler(&log, nil)))
			before := residentBytes(t)
			trttest.Fault(t, "createInferRuntime=flood")
			runtime := must[*Runtime](t)(library.NewRuntime())
			closeAtEnd(t, runtime)
			if grown := residentBytes(t) - before; grown > 10<<20 && !sanitized {
				t.Errorf("100 MB of lines took %d bytes", grown)
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			// 256 lines are kept, and one says how many are not.
			if len(lines) != 257 || !strings.Contains(log.String(), "lines=99744") {
				t.Errorf("want 256 lines and that 99744 are lost, found %d, the last: %.300s", len(lines), lines[len(lines)-1])
			}
			if first := lines[0]; !strings.Contains(first, "line 0....") || len(first) > 700 {
				t.Errorf("want a line that is cut, found %s", first)
			}
		})
	}
}
