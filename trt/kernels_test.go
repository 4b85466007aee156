//go:build tensorrt && cgo && linux

package trt

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"gladd/trt/trttest"
)

// runOnce runs a context of the graph that takes a batch of three values.
func runOnce(t *testing.T, l loaded, context *Context) {
	t.Helper()
	if err := context.SetDeviceMemory(4096, l.engine.DeviceMemory()); err != nil {
		t.Fatal(err)
	}
	l.context = context
	bind(t, l, 2)
	if err := context.Enqueue(0); err != nil {
		t.Fatal(err)
	}
}

// What TensorRT for RTX compiled once is not compiled again by a context that is given
// it; what is of no use, is.
func TestKernelsAreCompiledOnce(t *testing.T) {
	var log bytes.Buffer
	library := openFake(t, trttest.RTX, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if !library.CompilesKernels() {
		t.Fatal("expected TensorRT for RTX to compile kernels")
	}
	network := trttest.Graph("Relu", -1, 3)
	l := load(t, library, network, atBatches(network, 1, 2, 4))
	runOnce(t, l, l.context)
	kernels := must[[]byte](t)(l.context.Kernels())
	for name, test := range map[string]struct {
		given    []byte
		fault    string
		taken    bool
		compiles bool
		kept     bool // there are some afterwards
	}{
		"those of before":        {kernels, "", true, false, true},
		"none":                   {nil, "", false, true, true},
		"of another version":     {bytes.Replace(kernels, []byte("1.6.1"), []byte("1.6.0"), 1), "", false, true, true},
		"no cache can be made":   {kernels, "createRuntimeCache=garbage", false, false, false},
		"the cache is not taken": {kernels, "setRuntimeCache=false", false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			trttest.Fault(t, test.fault)
			log.Reset()
			context, taken, err := l.engine.NewContextWith(test.given)
			if err != nil {
				t.Fatal(err)
			}
			closeAtEnd(t, context)
			runOnce(t, l, context)
			after := must[[]byte](t)(context.Kernels())
			library.log.drain()
			if compiles := strings.Contains(log.String(), "compiling a kernel 2 3"); taken != test.taken || compiles != test.compiles || (len(after) > 0) != test.kept {
				t.Errorf("taken: expected %t, found %t; compiled: expected %t, found %t; %d bytes afterwards; %s", test.taken, taken, test.compiles, compiles, len(after), &log)
			}
		})
	}
	trttest.Fault(t, "IRuntimeCache::serialize=null")
	_, err := l.context.Kernels()
	checkCall(t, err, CallError{Call: "IRuntimeCache::serialize"})
}

func TestOthersHaveNoKernels(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		if library.CompilesKernels() {
			t.Skip("this one has")
		}
		network := trttest.Graph("Relu", -1, 3)
		l := load(t, library, network, atBatches(network, 1, 2, 4))
		context, taken, err := l.engine.NewContextWith([]byte("kernels"))
		if err != nil || taken {
			t.Fatalf("expected a context that takes none, found %t, %v", taken, err)
		}
		closeAtEnd(t, context)
		runOnce(t, l, context)
		if kernels, err := context.Kernels(); kernels != nil || err != nil {
			t.Errorf("expected none, found %q, %v", kernels, err)
		}
	})
}
