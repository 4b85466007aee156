// Package onnx reads the messages of ONNX files, as far as gladd looks into them, and
// writes such. ONNX Runtime and TensorRT read the rest.
package onnx

import (
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of onnx.proto3.
const (
	ModelIRVersion protowire.Number = 1  // ModelProto.ir_version
	ModelGraph     protowire.Number = 7  // ModelProto.graph
	ModelOpset     protowire.Number = 8  // ModelProto.opset_import
	ModelFunctions protowire.Number = 25 // ModelProto.functions
	OpsetVersion   protowire.Number = 2  // OperatorSetIdProto.version
	FunctionNode   protowire.Number = 7  // FunctionProto.node

	GraphNode        protowire.Number = 1  // GraphProto.node
	GraphName        protowire.Number = 2  // GraphProto.name
	GraphInitializer protowire.Number = 5  // GraphProto.initializer
	GraphInput       protowire.Number = 11 // GraphProto.input
	GraphOutput      protowire.Number = 12 // GraphProto.output
	GraphValueInfo   protowire.Number = 13 // GraphProto.value_info
	GraphSparse      protowire.Number = 15 // GraphProto.sparse_initializer

	NodeInput     protowire.Number = 1 // NodeProto.input
	NodeOutput    protowire.Number = 2 // NodeProto.output
	NodeName      protowire.Number = 3 // NodeProto.name
	NodeOperator  protowire.Number = 4 // NodeProto.op_type
	NodeAttribute protowire.Number = 5 // NodeProto.attribute
	NodeDomain    protowire.Number = 7 // NodeProto.domain

	AttributeName    protowire.Number = 1  // AttributeProto.name
	AttributeFloat   protowire.Number = 2  // AttributeProto.f
	AttributeInt     protowire.Number = 3  // AttributeProto.i
	AttributeTensor  protowire.Number = 5  // AttributeProto.t
	AttributeGraph   protowire.Number = 6  // AttributeProto.g
	AttributeFloats  protowire.Number = 7  // AttributeProto.floats
	AttributeInts    protowire.Number = 8  // AttributeProto.ints
	AttributeTensors protowire.Number = 10 // AttributeProto.tensors
	AttributeGraphs  protowire.Number = 11 // AttributeProto.graphs
	AttributeType    protowire.Number = 20 // AttributeProto.type
	AttributeSparse  protowire.Number = 22 // AttributeProto.sparse_tensor
	AttributeSparses protowire.Number = 23 // AttributeProto.sparse_tensors

	AttributeTypeInt    = 2 // AttributeProto.AttributeType.INT
	AttributeTypeTensor = 4 // AttributeProto.AttributeType.TENSOR

	TensorDims     protowire.Number = 1  // TensorProto.dims
	TensorType     protowire.Number = 2  // TensorProto.data_type
	TensorFloats   protowire.Number = 4  // TensorProto.float_data
	TensorName     protowire.Number = 8  // TensorProto.name
	TensorRaw      protowire.Number = 9  // TensorProto.raw_data
	TensorExternal protowire.Number = 13 // TensorProto.external_data
	TensorLocation protowire.Number = 14 // TensorProto.data_location

	SparseValues  protowire.Number = 1 // SparseTensorProto.values
	SparseIndices protowire.Number = 2 // SparseTensorProto.indices

	EntryKey   protowire.Number = 1 // StringStringEntryProto.key
	EntryValue protowire.Number = 2 // StringStringEntryProto.value

	InfoName        protowire.Number = 1 // ValueInfoProto.name
	InfoType        protowire.Number = 2 // ValueInfoProto.type
	TypeTensor      protowire.Number = 1 // TypeProto.tensor_type
	TensorTypeElem  protowire.Number = 1 // TypeProto.Tensor.elem_type
	TensorTypeShape protowire.Number = 2 // TypeProto.Tensor.shape
	ShapeDimension  protowire.Number = 1 // TensorShapeProto.dim
	DimensionValue  protowire.Number = 1 // TensorShapeProto.Dimension.dim_value
	DimensionName   protowire.Number = 2 // TensorShapeProto.Dimension.dim_param
)

// Field is one field of a message, with the bytes that it came as.
type Field struct {
	Number protowire.Number
	Kind   protowire.Type
	Raw    []byte // with its tag
	Bytes  []byte // the content, of a length-delimited field
	Scalar uint64 // the value, of a varint or of fixed 32 bits
}

// Fields are those of a message, one after the other. They end with an error where the
// message is none.
func Fields(message []byte) iter.Seq2[Field, error] {
	return func(yield func(Field, error) bool) {
		for len(message) > 0 {
			number, kind, tag := protowire.ConsumeTag(message)
			if tag < 0 {
				yield(Field{}, protowire.ParseError(tag))
				return
			}
			length := protowire.ConsumeFieldValue(number, kind, message[tag:])
			if length < 0 {
				yield(Field{}, protowire.ParseError(length))
				return
			}
			if !yield(fieldOf(number, kind, message[:tag+length], tag), nil) {
				return
			}
			message = message[tag+length:]
		}
	}
}

func fieldOf(number protowire.Number, kind protowire.Type, raw []byte, tag int) Field {
	field := Field{Number: number, Kind: kind, Raw: raw}
	switch value := raw[tag:]; kind {
	case protowire.BytesType:
		field.Bytes, _ = protowire.ConsumeBytes(value)
	case protowire.VarintType:
		field.Scalar, _ = protowire.ConsumeVarint(value)
	case protowire.Fixed32Type:
		bits, _ := protowire.ConsumeFixed32(value)
		field.Scalar = uint64(bits)
	}
	return field
}

// Parse splits a message into its fields.
func Parse(message []byte) ([]Field, error) {
	var fields []Field
	for field, err := range Fields(message) {
		if err != nil {
			return nil, err
		}
		fields = append(fields, field)
	}
	return fields, nil
}

// Is says that a field has a number and is of the wire type that belongs to
// it; a field of another type is one that nobody knows.
func (f Field) Is(number protowire.Number, kind protowire.Type) bool {
	return f.Number == number && f.Kind == kind
}

// Message says that a field has a number and is length-delimited: a message, a text or
// bytes.
func (f Field) Message(number protowire.Number) bool { return f.Is(number, protowire.BytesType) }

// Integers appends the values of a repeated integer field, packed or not.
func (f Field) Integers(to []int64) ([]int64, error) {
	if f.Kind == protowire.VarintType {
		return append(to, int64(f.Scalar)), nil
	}
	for packed := f.Bytes; len(packed) > 0; {
		value, length := protowire.ConsumeVarint(packed)
		if length < 0 {
			return to, protowire.ParseError(length)
		}
		to = append(to, int64(value))
		packed = packed[length:]
	}
	return to, nil
}

// AppendMessage appends a field that holds a message or bytes.
func AppendMessage(to []byte, number protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), message)
}

// AppendText appends a field that holds a text.
func AppendText(to []byte, number protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(to, number, protowire.BytesType), text)
}

// AppendInteger appends a field that holds a whole number.
func AppendInteger(to []byte, number protowire.Number, value int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(to, number, protowire.VarintType), uint64(value))
}
