package onnx

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// What was written is read, and what is read is what came, byte by byte.
func TestFields(t *testing.T) {
	packed := protowire.AppendVarint(protowire.AppendVarint(nil, 3), 1<<40)
	message := AppendText(nil, InfoName, "x")
	message = AppendInteger(message, TensorDims+4, -1)
	message = AppendMessage(message, AttributeInts, packed)
	message = AppendInteger(message, AttributeInts, 7)
	message = protowire.AppendFixed32(protowire.AppendTag(message, AttributeFloat, protowire.Fixed32Type), 0x3f800000)
	message = protowire.AppendFixed64(protowire.AppendTag(message, 2000, protowire.Fixed64Type), 1)
	fields, err := Parse(message)
	if err != nil || len(fields) != 6 {
		t.Fatalf("expected 6 fields, found %v, %v", fields, err)
	}
	var raw []byte
	var integers []int64
	for _, field := range fields {
		raw = append(raw, field.Raw...)
		if field.Number == AttributeInts {
			if integers, err = field.Integers(integers); err != nil {
				t.Error(err)
			}
		}
	}
	if !bytes.Equal(raw, message) {
		t.Errorf("expected %x, found %x", message, raw)
	}
	if !slices.Equal(integers, []int64{3, 1 << 40, 7}) {
		t.Errorf("whole numbers: found %v", integers)
	}
	if !fields[0].Message(InfoName) || string(fields[0].Bytes) != "x" || int64(fields[1].Scalar) != -1 || fields[1].Message(TensorDims+4) || fields[4].Scalar != 0x3f800000 {
		t.Errorf("found %+v", fields)
	}
	if fields, err := Parse(nil); len(fields) > 0 || err != nil {
		t.Errorf("nothing: found %v, %v", fields, err)
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	whole := AppendText(AppendInteger(nil, ModelIRVersion, 8), GraphName, "graph")
	for name, message := range map[string][]byte{"cut off": whole[:len(whole)-1], "a tag only": whole[:1], "field 0": {0, 1}, "a group without end": {0x0b}} {
		count := 0
		var last error
		for _, err := range Fields(message) {
			count++
			last = err
		}
		if fields, err := Parse(message); err == nil || fields != nil || last == nil || count > 2 {
			t.Errorf("%s: expected an error at the end, found %v, %v, %v", name, fields, err, last)
		}
	}
	if _, err := (Field{Kind: protowire.BytesType, Bytes: []byte{0x80}}).Integers(nil); err == nil {
		t.Error("a whole number without end: expected an error, found none")
	}
}
