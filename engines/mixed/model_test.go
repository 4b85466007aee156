package mixed

import (
	"encoding/binary"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"gladd/internal/onnx"
)

// model is a small ONNX model for tests, of opset 17 unless it says otherwise.
type model struct {
	opset           int64
	nodes           [][]byte
	tensors         [][]byte
	inputs, outputs [][]byte
	infos           [][]byte
}

func (m model) graph() []byte {
	message := onnx.AppendText(nil, 2, "test") // GraphProto.name
	for _, fields := range []struct {
		number   protowire.Number
		messages [][]byte
	}{{onnx.GraphNode, m.nodes}, {onnx.GraphInitializer, m.tensors}, {onnx.GraphInput, m.inputs}, {onnx.GraphOutput, m.outputs}, {onnx.GraphValueInfo, m.infos}} {
		for _, each := range fields.messages {
			message = onnx.AppendMessage(message, fields.number, each)
		}
	}
	return message
}

func (m model) bytes() []byte {
	if m.opset == 0 {
		m.opset = 17
	}
	message := onnx.AppendInteger(nil, 1, 8) // ModelProto.ir_version
	opsets := [][]byte{onnx.AppendInteger(nil, 2, m.opset)}
	if strings.Contains(string(m.graph()), "made.up") {
		opsets = append(opsets, onnx.AppendInteger(onnx.AppendText(nil, 1, "made.up"), 2, 1))
	}
	for _, opset := range opsets {
		message = onnx.AppendMessage(message, onnx.ModelOpset, opset)
	}
	return onnx.AppendMessage(message, onnx.ModelGraph, m.graph())
}

// op is a node: "MatMul" of "x w" giving "y". A name of "-" is left out. An
// operator of another domain has it before a colon.
func op(operator, inputs, outputs string, attributes ...[]byte) []byte {
	var message []byte
	name := func(text string) string { return strings.TrimPrefix(text, "-") }
	for _, input := range strings.Fields(inputs) {
		message = onnx.AppendText(message, onnx.NodeInput, name(input))
	}
	for _, output := range strings.Fields(outputs) {
		message = onnx.AppendText(message, onnx.NodeOutput, name(output))
	}
	domain, kind, found := strings.Cut(operator, ":")
	if !found {
		domain, kind = "", operator
	}
	message = onnx.AppendText(message, onnx.NodeName, "node_"+strings.Fields(outputs)[0])
	message = onnx.AppendText(message, onnx.NodeOperator, kind)
	for _, attribute := range attributes {
		message = onnx.AppendMessage(message, onnx.NodeAttribute, attribute)
	}
	if domain != "" {
		message = onnx.AppendText(message, onnx.NodeDomain, domain)
	}
	return message
}

func integer(name string, value int64) []byte {
	return onnx.AppendInteger(onnx.AppendInteger(onnx.AppendText(nil, onnx.AttributeName, name), onnx.AttributeInt, value), onnx.AttributeType, onnx.AttributeTypeInt)
}

func integers(name string, values ...int64) []byte {
	message := onnx.AppendText(nil, onnx.AttributeName, name)
	for _, value := range values {
		message = onnx.AppendInteger(message, onnx.AttributeInts, value)
	}
	return onnx.AppendInteger(message, onnx.AttributeType, 7) // INTS
}

func text(name, value string) []byte {
	return onnx.AppendInteger(onnx.AppendText(onnx.AppendText(nil, onnx.AttributeName, name), 4, value), onnx.AttributeType, 3) // s, STRING
}

func number(name string, value float32) []byte {
	message := protowire.AppendTag(onnx.AppendText(nil, onnx.AttributeName, name), onnx.AttributeFloat, protowire.Fixed32Type)
	return onnx.AppendInteger(protowire.AppendFixed32(message, math.Float32bits(value)), onnx.AttributeType, 1) // FLOAT
}

// tensorAttribute is a constant's value.
func tensorAttribute(value []byte) []byte {
	return onnx.AppendInteger(onnx.AppendMessage(onnx.AppendText(nil, onnx.AttributeName, "value"), onnx.AttributeTensor, value), onnx.AttributeType, onnx.AttributeTypeTensor)
}

func graphAttribute(name string, m model) []byte {
	return onnx.AppendInteger(onnx.AppendMessage(onnx.AppendText(nil, onnx.AttributeName, name), onnx.AttributeGraph, m.graph()), onnx.AttributeType, 5) // GRAPH
}

// initializer makes a TensorProto of []float32, []float64, []int64, []uint8,
// []int8 or FP16 bits.
func initializer(name string, values any, dims ...int64) []byte {
	var message []byte
	for _, dim := range dims {
		message = onnx.AppendInteger(message, onnx.TensorDims, dim)
	}
	var kind elementType
	switch values.(type) {
	case []float32:
		kind = float32s
	case []float64:
		kind = 11
	case []int64:
		kind = int64s
	case []uint16:
		kind = float16s
	case []uint8:
		kind = uint8s
	case []int8:
		kind = 3
	}
	raw, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		panic(err)
	}
	message = onnx.AppendInteger(message, onnx.TensorType, int64(kind))
	message = onnx.AppendText(message, onnx.TensorName, name)
	return onnx.AppendMessage(message, onnx.TensorRaw, raw)
}

// shaped is an input or an output of float32 values.
func shaped(name string, dims ...int64) []byte { return typed(name, float32s, dims...) }

func typed(name string, kind elementType, dims ...int64) []byte {
	var shape []byte
	for _, dim := range dims {
		shape = onnx.AppendMessage(shape, 1, onnx.AppendInteger(nil, 1, dim)) // dim, dim_value
	}
	tensor := onnx.AppendMessage(onnx.AppendInteger(nil, onnx.TensorTypeElem, int64(kind)), 2, shape)
	return onnx.AppendMessage(onnx.AppendText(nil, onnx.InfoName, name), onnx.InfoType, onnx.AppendMessage(nil, onnx.TypeTensor, tensor))
}

// ramp makes n values between -1 and 1.
func ramp(n int) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(math.Sin(float64(7*i + 1)))
	}
	return values
}
