// Package cuda is a small layer over the CUDA driver API. libcuda.so.1 is
// opened at run time, so that the program starts where there is none.
//
// A [Device] owns one locked operating system thread and, on it, the device's
// primary context. All calls that need the context are made in functions that
// [Device.Do] runs on that thread; made elsewhere they are refused with
// [ErrOutsideDo]. Whatever a function was given by its [Thread] may be kept and
// used in a later Do.
//
// No call uses the default stream. Copies and fills are asynchronous: they are
// done once the stream or an event behind them was synchronized.
//
// Numbers of the CUDA driver API are from its reference,
// https://docs.nvidia.com/cuda/cuda-driver-api/.
package cuda

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// MinimumVersion is the oldest version of CUDA that a driver must support:
// 11.4, the first with cuGraphInstantiateWithFlags, and JetPack 5's.
const MinimumVersion Version = 11040

// Version is a version of CUDA as the driver gives it: 1000 x major + 10 x minor.
type Version int

// String is for example "12.4"; "unknown" for 0.
func (v Version) String() string {
	if v <= 0 {
		return "unknown"
	}
	return fmt.Sprintf("%d.%d", int(v)/1000, int(v)%1000/10)
}

// Options of [Open].
type Options struct {
	// Library is the path of the CUDA driver's library; empty: libcuda.so.1 is
	// looked for by the loader and then in the usual folders.
	Library string
	Log     *slog.Logger // nil: nothing is logged
}

// DefaultHangTimeout is how long a function may run on a device's thread
// before the device counts as hung.
const DefaultHangTimeout = 30 * time.Second

// DeviceOptions are the options of [Driver.OpenDevice].
type DeviceOptions struct {
	HangTimeout time.Duration // 0: DefaultHangTimeout
	// OnHung is called once each time that the device hangs; the error is a
	// [HungError]. Nil: nobody is told.
	OnHung func(error)
	// OnRecovered is called once each time that a device that hung works again.
	// Both are called in the order in which it happened, one at a time, in
	// goroutines of their own: they may use the device. Nil: nobody is told.
	OnRecovered func()
	Log         *slog.Logger // nil: nothing is logged
}

// Properties of a device.
type Properties struct {
	Ordinal         int    // its place among the devices that the driver shows
	Name            string // for example "Orin"
	UUID            string // "GPU-" and 32 hexadecimal digits in five groups, as 'nvidia-smi -L' prints it; a MIG slice's own; empty: it has none
	ComputeMajor    int    // of the compute capability, 8 of 8.7
	ComputeMinor    int    // 7 of 8.7
	TotalMemory     uint64 // bytes
	Multiprocessors int
	Integrated      bool // it shares the computer's memory, as on a Jetson
}

// Live counts what was made on a device and is not freed.
type Live struct {
	Streams, Events, Graphs int
	Memories                int
	MemoryBytes             int
	Pinned                  int
	PinnedBytes             int
}

// String lists what there is, for example "2 streams, 1 memory (4096 bytes)".
func (l Live) String() string {
	var parts []string
	add := func(count int, one, many string, bytes int) {
		if count == 0 {
			return
		}
		name := many
		if count == 1 {
			name = one
		}
		part := fmt.Sprintf("%d %s", count, name)
		if bytes > 0 {
			part += fmt.Sprintf(" (%d bytes)", bytes)
		}
		parts = append(parts, part)
	}
	add(l.Streams, "stream", "streams", 0)
	add(l.Events, "event", "events", 0)
	add(l.Graphs, "graph", "graphs", 0)
	add(l.Memories, "memory", "memories", l.MemoryBytes)
	add(l.Pinned, "pinned memory", "pinned memories", l.PinnedBytes)
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
