package mixed

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of onnx.proto3, as far as precision depends on them.
const (
	modelOpset protowire.Number = 8 // ModelProto.opset_import
	modelGraph protowire.Number = 7 // ModelProto.graph

	graphNode        protowire.Number = 1  // GraphProto.node
	graphInitializer protowire.Number = 5  // GraphProto.initializer
	graphInput       protowire.Number = 11 // GraphProto.input
	graphOutput      protowire.Number = 12 // GraphProto.output
	graphValueInfo   protowire.Number = 13 // GraphProto.value_info
	graphSparse      protowire.Number = 15 // GraphProto.sparse_initializer

	nodeInput     protowire.Number = 1 // NodeProto.input
	nodeOutput    protowire.Number = 2 // NodeProto.output
	nodeName      protowire.Number = 3 // NodeProto.name
	nodeOperator  protowire.Number = 4 // NodeProto.op_type
	nodeAttribute protowire.Number = 5 // NodeProto.attribute
	nodeDomain    protowire.Number = 7 // NodeProto.domain

	attributeName   protowire.Number = 1  // AttributeProto.name
	attributeFloat  protowire.Number = 2  // AttributeProto.f
	attributeInt    protowire.Number = 3  // AttributeProto.i
	attributeTensor protowire.Number = 5  // AttributeProto.t
	attributeGraph  protowire.Number = 6  // AttributeProto.g
	attributeFloats protowire.Number = 7  // AttributeProto.floats
	attributeInts   protowire.Number = 8  // AttributeProto.ints
	attributeGraphs protowire.Number = 11 // AttributeProto.graphs
	attributeType   protowire.Number = 20 // AttributeProto.type

	attributeTypeInt    = 2 // AttributeProto.AttributeType.INT
	attributeTypeTensor = 4 // AttributeProto.AttributeType.TENSOR

	tensorDims     protowire.Number = 1  // TensorProto.dims
	tensorType     protowire.Number = 2  // TensorProto.data_type
	tensorFloats   protowire.Number = 4  // TensorProto.float_data
	tensorName     protowire.Number = 8  // TensorProto.name
	tensorRaw      protowire.Number = 9  // TensorProto.raw_data
	tensorExternal protowire.Number = 13 // TensorProto.external_data
	tensorLocation protowire.Number = 14 // TensorProto.data_location

	sparseValues protowire.Number = 1 // SparseTensorProto.values

	entryKey   protowire.Number = 1 // StringStringEntryProto.key
	entryValue protowire.Number = 2 // StringStringEntryProto.value

	infoName       protowire.Number = 1 // ValueInfoProto.name
	infoType       protowire.Number = 2 // ValueInfoProto.type
	typeTensor     protowire.Number = 1 // TypeProto.tensor_type
	tensorTypeElem protowire.Number = 1 // TypeProto.Tensor.elem_type
)

// elementType is TensorProto.DataType.
type elementType int32

const (
	unknown  elementType = 0
	float32s elementType = 1
	uint8s   elementType = 2
	int32s   elementType = 6
	int64s   elementType = 7
	booleans elementType = 9
	float16s elementType = 10
	noTensor elementType = -1 // a sequence, a map, an optional value
)

// width is how many bytes a value takes; 0: it is not known here.
func (e elementType) width() int64 {
	switch e {
	case float32s, int32s:
		return 4
	case float16s:
		return 2
	case int64s:
		return 8
	case uint8s, booleans:
		return 1
	}
	return 0
}

// field is one field of a message, with the bytes that it came as.
type field struct {
	number protowire.Number
	kind   protowire.Type
	raw    []byte // with its tag
	bytes  []byte // the content, of a length-delimited field
	scalar uint64 // the value, of a varint or of fixed 32 bits
}

// parse splits a message into its fields.
func parse(message []byte) ([]field, error) {
	var fields []field
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return nil, protowire.ParseError(tag)
		}
		length := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if length < 0 {
			return nil, protowire.ParseError(length)
		}
		parsed := field{number: number, kind: kind, raw: message[:tag+length]}
		value := message[tag : tag+length]
		switch kind {
		case protowire.BytesType:
			parsed.bytes, _ = protowire.ConsumeBytes(value)
		case protowire.VarintType:
			parsed.scalar, _ = protowire.ConsumeVarint(value)
		case protowire.Fixed32Type:
			bits, _ := protowire.ConsumeFixed32(value)
			parsed.scalar = uint64(bits)
		}
		fields = append(fields, parsed)
		message = message[tag+length:]
	}
	return fields, nil
}

// is says that a field has a number and is of the wire type that belongs to
// it; a field of another type is one that nobody knows.
func (f field) is(number protowire.Number, kind protowire.Type) bool {
	return f.number == number && f.kind == kind
}

func (f field) message(number protowire.Number) bool { return f.is(number, protowire.BytesType) }

// integers appends the values of a repeated integer field, packed or not.
func (f field) integers(to []int64) ([]int64, error) {
	if f.kind == protowire.VarintType {
		return append(to, int64(f.scalar)), nil
	}
	for packed := f.bytes; len(packed) > 0; {
		value, length := protowire.ConsumeVarint(packed)
		if length < 0 {
			return to, protowire.ParseError(length)
		}
		to = append(to, int64(value))
		packed = packed[length:]
	}
	return to, nil
}

func appendMessage(to []byte, number protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), message)
}

func appendText(to []byte, number protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(to, number, protowire.BytesType), text)
}

func appendInteger(to []byte, number protowire.Number, value int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(to, number, protowire.VarintType), uint64(value))
}
