package cuda

import (
	"fmt"
	"unsafe"
)

// CopyToDevice copies bytes in the stream's turn. The offsets are in bytes. The
// source must not change before the stream has got there.
func (t *Thread) CopyToDevice(to *Memory, toOffset int, from *Pinned, fromOffset, bytes int, stream *Stream) error {
	const what = "copy to the device"
	d := t.device
	if err := d.use(what, to.part(), from.part(), stream.part()); err != nil {
		return err
	}
	if err := within(span{"target", toOffset, to.size}, span{"source", fromOffset, from.size}, bytes); err != nil {
		return d.wrap(what, err)
	}
	code := d.native.copyToDevice(to.address+uintptr(toOffset), unsafe.Add(from.pointer, fromOffset), bytes, stream.handle)
	return d.told(what, "cuMemcpyHtoDAsync_v2", code)
}

// CopyToHost copies bytes in the stream's turn. The offsets are in bytes. The
// target holds them once the stream was synchronized.
func (t *Thread) CopyToHost(to *Pinned, toOffset int, from *Memory, fromOffset, bytes int, stream *Stream) error {
	const what = "copy to the host"
	d := t.device
	if err := d.use(what, to.part(), from.part(), stream.part()); err != nil {
		return err
	}
	if err := within(span{"target", toOffset, to.size}, span{"source", fromOffset, from.size}, bytes); err != nil {
		return d.wrap(what, err)
	}
	code := d.native.copyToHost(unsafe.Add(to.pointer, toOffset), from.address+uintptr(fromOffset), bytes, stream.handle)
	return d.told(what, "cuMemcpyDtoHAsync_v2", code)
}

// CopyOnDevice copies bytes in the stream's turn. The offsets are in bytes.
// Within one memory the two places must not overlap.
func (t *Thread) CopyOnDevice(to *Memory, toOffset int, from *Memory, fromOffset, bytes int, stream *Stream) error {
	const what = "copy on the device"
	d := t.device
	if err := d.use(what, to.part(), from.part(), stream.part()); err != nil {
		return err
	}
	if err := within(span{"target", toOffset, to.size}, span{"source", fromOffset, from.size}, bytes); err != nil {
		return d.wrap(what, err)
	}
	if to == from && toOffset < fromOffset+bytes && fromOffset < toOffset+bytes {
		return d.wrap(what, fmt.Errorf("%d bytes from %d to %d of one memory overlap; expected places apart", bytes, fromOffset, toOffset))
	}
	code := d.native.copyOnDevice(to.address+uintptr(toOffset), from.address+uintptr(fromOffset), bytes, stream.handle)
	return d.told(what, "cuMemcpyDtoDAsync_v2", code)
}

// Fill sets bytes of the memory to the value in the stream's turn.
func (t *Thread) Fill(to *Memory, offset int, value byte, bytes int, stream *Stream) error {
	const what = "fill device memory"
	d := t.device
	if err := d.use(what, to.part(), stream.part()); err != nil {
		return err
	}
	place := span{"target", offset, to.size}
	if err := within(place, place, bytes); err != nil {
		return d.wrap(what, err)
	}
	return d.told(what, "cuMemsetD8Async", d.native.fill(to.address+uintptr(offset), value, bytes, stream.handle))
}

// told makes the error of a call, named by what it was for.
func (d *Device) told(what, call string, code int) error {
	if code == codeSuccess {
		return nil
	}
	return d.wrap(what, d.check(call, code))
}

// span is a place in a memory.
type span struct {
	name         string
	offset, size int // bytes
}

// within reports bytes that do not lie in both memories.
func within(to, from span, bytes int) error {
	if bytes <= 0 {
		return fmt.Errorf("expected 1 byte or more, found %d", bytes)
	}
	for _, place := range []span{to, from} {
		// Written so that no sum can overflow.
		if place.offset < 0 || place.offset > place.size || bytes > place.size-place.offset {
			return fmt.Errorf("%s: %d bytes from offset %d do not lie in its %d bytes", place.name, bytes, place.offset, place.size)
		}
	}
	return nil
}
