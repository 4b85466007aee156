package mixed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"gladd/internal/onnx"
)

// tensor is a TensorProto: an initializer or the value of a Constant.
type tensor struct {
	name     string
	kind     elementType
	dims     []int64
	fields   []onnx.Field
	data     []byte    // of float32 tensors within the graph's own file
	external *location // nil: the values are in the graph's own file
	extent   extent    // of float32 tensors
}

// location says where in a file beside the graph a tensor's values are.
type location struct {
	file   string
	offset int64
	length int64
	// measured says that length is known; else the rest of the file is meant.
	measured bool
	open     io.ReaderAt
}

func parseTensor(message []byte) (*tensor, error) {
	fields, err := onnx.Parse(message)
	if err != nil {
		return nil, err
	}
	t := &tensor{fields: fields}
	for _, f := range fields {
		switch {
		case f.Message(onnx.TensorName):
			t.name = string(f.Bytes)
		case f.Is(onnx.TensorType, protowire.VarintType):
			t.kind = elementType(f.Scalar)
		case f.Number == onnx.TensorDims:
			if t.dims, err = f.Integers(t.dims); err != nil {
				return nil, err
			}
		case f.Is(onnx.TensorLocation, protowire.VarintType) && f.Scalar == 1:
			if t.external == nil {
				t.external = &location{}
			}
		}
	}
	if t.external != nil {
		err = t.parseExternal()
	} else if t.kind == float32s {
		err = t.parseFloats()
	}
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.name, err)
	}
	return t, nil
}

// elements is the number of values, or an error if dimensions make no sense.
func (t *tensor) elements() (int64, error) {
	count := int64(1)
	for _, dim := range t.dims {
		if dim < 0 || dim > 0 && count > math.MaxInt64/8/dim {
			return 0, fmt.Errorf("expected dimensions of a tensor, found %v", t.dims)
		}
		count *= dim
	}
	return count, nil
}

// parseFloats finds float32 values within the message.
func (t *tensor) parseFloats() error {
	var list []byte
	for _, f := range t.fields {
		switch {
		case f.Message(onnx.TensorRaw):
			t.data = f.Bytes
		case f.Message(onnx.TensorFloats):
			list = append(list, f.Bytes...)
		case f.Is(onnx.TensorFloats, protowire.Fixed32Type):
			list = binary.LittleEndian.AppendUint32(list, uint32(f.Scalar))
		}
	}
	if len(t.data) == 0 {
		t.data = list
	}
	count, err := t.elements()
	if err != nil {
		return err
	}
	if int64(len(t.data)) != 4*count {
		return fmt.Errorf("expected %d bytes for %d float32 values, found %d; the file is damaged", 4*count, count, len(t.data))
	}
	return nil
}

// parseExternal reads the entries of external_data.
func (t *tensor) parseExternal() error {
	for _, f := range t.fields {
		if !f.Message(onnx.TensorExternal) {
			continue
		}
		entry, err := onnx.Parse(f.Bytes)
		if err != nil {
			return err
		}
		var key, value string
		for _, f := range entry {
			switch {
			case f.Message(onnx.EntryKey):
				key = string(f.Bytes)
			case f.Message(onnx.EntryValue):
				value = string(f.Bytes)
			}
		}
		switch key {
		case "location":
			t.external.file = value
		case "offset":
			t.external.offset, err = strconv.ParseInt(value, 10, 64)
		case "length":
			t.external.length, err = strconv.ParseInt(value, 10, 64)
			t.external.measured = true
		}
		if err != nil || t.external.offset < 0 || t.external.length < 0 {
			return fmt.Errorf("external_data %s: expected a number of bytes, found %q", key, value)
		}
	}
	if t.external.file == "" {
		return errors.New("external_data: expected the location of a file, found none")
	}
	width := t.kind.width()
	if width == 0 {
		return nil
	}
	count, err := t.elements()
	if err != nil {
		return err
	}
	if !t.external.measured {
		t.external.length, t.external.measured = width*count, true
	}
	if t.external.length != width*count {
		return fmt.Errorf("expected external_data of length %d for %d values of %d bytes, found %d", width*count, count, width, t.external.length)
	}
	return nil
}

// size is how many bytes the values take as they are.
func (t *tensor) size() int64 {
	if t.external != nil {
		return t.external.length
	}
	return int64(len(t.data))
}

// values reads the values as they are. External ones must have been opened.
func (t *tensor) values() io.Reader {
	if t.external != nil {
		return io.NewSectionReader(t.external.open, t.external.offset, t.external.length)
	}
	return bytes.NewReader(t.data)
}

// measure finds what becomes of a float32 tensor in FP16.
func (t *tensor) measure() (err error) {
	if t.extent, err = measure(t.values(), t.size()); err != nil {
		return fmt.Errorf("tensor %q: %w", t.name, err)
	}
	return nil
}

// lost says that a tensor of one value loses a part of it in FP16: an epsilon
// that keeps a divisor from zero is gone.
func (t *tensor) lost() bool {
	return t.size() == 4 && t.extent.flushed+t.extent.subnormal > 0
}

// header is the message without name, type and values.
func (t *tensor) header(name string, kind elementType) []byte {
	var message []byte
	for _, f := range t.fields {
		switch f.Number {
		case onnx.TensorName, onnx.TensorType, onnx.TensorFloats, onnx.TensorRaw, onnx.TensorExternal, onnx.TensorLocation:
		default:
			message = append(message, f.Raw...)
		}
	}
	message = onnx.AppendInteger(message, onnx.TensorType, int64(kind))
	return onnx.AppendText(message, onnx.TensorName, name)
}

// half is the tensor in FP16 under a name, as a field of the message around it.
// Its values are converted when they are written.
func (t *tensor) half(number protowire.Number, name string) piece {
	inside := newPiece(t.header(name, float16s))
	values := newPiece(nil)
	values.add(t, t.size()/2)
	inside.message(onnx.TensorRaw, values)
	outside := newPiece(nil)
	outside.message(number, inside)
	return outside
}

// piece is a part of a message that is written in its turn: bytes that are
// there and values of tensors that are not converted before.
type piece struct {
	parts []part
	size  int64
}

type part struct {
	bytes  []byte
	tensor *tensor // nil: bytes; else its values in FP16
}

func newPiece(content []byte) piece {
	var p piece
	p.append(content)
	return p
}

func (p *piece) append(content []byte) {
	if len(content) > 0 {
		p.parts = append(p.parts, part{bytes: content})
		p.size += int64(len(content))
	}
}

func (p *piece) add(t *tensor, size int64) {
	p.parts = append(p.parts, part{tensor: t})
	p.size += size
}

func (p *piece) join(other piece) {
	p.parts = append(p.parts, other.parts...)
	p.size += other.size
}

// message appends a length-delimited field.
func (p *piece) message(number protowire.Number, content piece) {
	p.append(protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.BytesType), uint64(content.size)))
	p.join(content)
}

func (p *piece) write(to io.Writer) error {
	for _, part := range p.parts {
		var err error
		if part.tensor != nil {
			err = writeHalf(to, part.tensor.values(), part.tensor.size())
		} else {
			_, err = to.Write(part.bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
