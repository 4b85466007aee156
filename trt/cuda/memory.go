package cuda

import (
	"errors"
	"fmt"
	"unsafe"
)

// addressAlignment in bytes is what the driver gives at least ("Device Memory
// Accesses" in the CUDA C++ Programming Guide) and TensorRT needs.
const addressAlignment = 256

// Memory is memory of the device.
type Memory struct {
	resource
	address uintptr
	size    int
}

// Pinned is page-locked memory of the computer, which the device reads and
// writes by itself. It is not Go's memory.
type Pinned struct {
	resource
	pointer unsafe.Pointer
	size    int
}

// Alloc makes memory of the device, with whatever was in it. Too little memory
// is an [OutOfMemoryError].
func (t *Thread) Alloc(bytes int) (*Memory, error) {
	d := t.device
	if err := d.use("allocate device memory"); err != nil {
		return nil, err
	}
	if bytes <= 0 {
		return nil, d.wrap("allocate device memory", fmt.Errorf("expected 1 byte or more, found %d", bytes))
	}
	address, code := d.native.allocate(bytes)
	if code != codeSuccess {
		return nil, d.allocationError("device memory", "cuMemAlloc_v2", code, bytes)
	}
	if address == 0 || address%addressAlignment != 0 {
		err := fmt.Errorf("expected an address aligned to %d bytes, found %#x; the driver is faulty", addressAlignment, address)
		return nil, d.wrap("allocate device memory", errors.Join(err, d.check("cuMemFree_v2", d.native.free(address))))
	}
	memory := &Memory{resource: d.resource("device memory"), address: address, size: bytes}
	d.keep(memory)
	return memory, nil
}

// AllocPinned makes page-locked memory, with whatever was in it. Too little
// memory is an [OutOfMemoryError].
func (t *Thread) AllocPinned(bytes int) (*Pinned, error) {
	d := t.device
	if err := d.use("allocate pinned memory"); err != nil {
		return nil, err
	}
	if bytes <= 0 {
		return nil, d.wrap("allocate pinned memory", fmt.Errorf("expected 1 byte or more, found %d", bytes))
	}
	pointer, code := d.native.allocatePinned(bytes)
	if code != codeSuccess {
		return nil, d.allocationError("pinned memory", "cuMemHostAlloc", code, bytes)
	}
	pinned := &Pinned{resource: d.resource("pinned memory"), pointer: pointer, size: bytes}
	d.keep(pinned)
	return pinned, nil
}

// allocationError says what is free where that is the cause.
func (d *Device) allocationError(kind, call string, code, bytes int) error {
	err := d.check(call, code)
	if code == codeOutOfMemory {
		short := &OutOfMemoryError{Kind: kind, Requested: bytes, Err: err}
		if free, total, code := d.native.memoryInfo(); code == codeSuccess {
			short.Free, short.Total = free, total
		}
		err = short
	}
	return d.wrap("allocate "+kind, err)
}

// Address is the memory's address on the device, aligned to 256 bytes.
func (m *Memory) Address() uintptr { return m.address }

// Size in bytes.
func (m *Memory) Size() int { return m.size }

// Free gives the memory back, after all work that uses it. It may be called
// twice.
func (m *Memory) Free() error {
	if m == nil {
		return nil
	}
	return m.device.free(m)
}

func (m *Memory) destroy() error {
	return m.device.check("cuMemFree_v2", m.device.native.free(m.address))
}

func (m *Memory) count(live *Live) { live.Memories++; live.MemoryBytes += m.size }

func (m *Memory) part() *resource {
	if m == nil {
		return nil
	}
	return &m.resource
}

// Size in bytes.
func (p *Pinned) Size() int { return p.size }

// Free gives the memory back. No copy may be under way and its slices must not
// be touched any more. It may be called twice.
func (p *Pinned) Free() error {
	if p == nil {
		return nil
	}
	return p.device.free(p)
}

func (p *Pinned) destroy() error {
	return p.device.check("cuMemFreeHost", p.device.native.freePinned(p.pointer))
}

func (p *Pinned) count(live *Live) { live.Pinned++; live.PinnedBytes += p.size }

func (p *Pinned) part() *resource {
	if p == nil {
		return nil
	}
	return &p.resource
}

// Bytes is the memory itself, on the device's thread; nil elsewhere, and once
// it was freed, the context was lost or the device was reset. The slice is of use until then, and only
// while no copy is under way.
func (p *Pinned) Bytes() []byte {
	if p == nil || p.device.use("pinned memory", &p.resource) != nil {
		return nil
	}
	return unsafe.Slice((*byte)(p.pointer), p.size)
}

// Float32s is the memory as [Pinned.Bytes] gives it, bytes beyond the last
// whole number left out.
func (p *Pinned) Float32s() []float32 { return numbers[float32](p) }

// Int64s is the memory as [Pinned.Bytes] gives it, bytes beyond the last whole
// number left out.
func (p *Pinned) Int64s() []int64 { return numbers[int64](p) }

// Int32s is the memory as [Pinned.Bytes] gives it, bytes beyond the last whole
// number left out.
func (p *Pinned) Int32s() []int32 { return numbers[int32](p) }

func numbers[N float32 | int64 | int32](p *Pinned) []N {
	bytes := p.Bytes()
	count := len(bytes) / int(unsafe.Sizeof(N(0)))
	if count == 0 {
		return nil
	}
	return unsafe.Slice((*N)(p.pointer), count) // page-locked memory begins with a page
}
