package mixed

import (
	"encoding/binary"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
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
	message := appendText(nil, 2, "test") // GraphProto.name
	for _, fields := range []struct {
		number   protowire.Number
		messages [][]byte
	}{{graphNode, m.nodes}, {graphInitializer, m.tensors}, {graphInput, m.inputs}, {graphOutput, m.outputs}, {graphValueInfo, m.infos}} {
		for _, each := range fields.messages {
			message = appendMessage(message, fields.number, each)
		}
	}
	return message
}

func (m model) bytes() []byte {
	if m.opset == 0 {
		m.opset = 17
	}
	message := appendInteger(nil, 1, 8) // ModelProto.ir_version
	opsets := [][]byte{appendInteger(nil, 2, m.opset)}
	if strings.Contains(string(m.graph()), "made.up") {
		opsets = append(opsets, appendInteger(appendText(nil, 1, "made.up"), 2, 1))
	}
	for _, opset := range opsets {
		message = appendMessage(message, modelOpset, opset)
	}
	return appendMessage(message, modelGraph, m.graph())
}

// op is a node: "MatMul" of "x w" giving "y". A name of "-" is left out. An
// operator of another domain has it before a colon.
func op(operator, inputs, outputs string, attributes ...[]byte) []byte {
	var message []byte
	name := func(text string) string { return strings.TrimPrefix(text, "-") }
	for _, input := range strings.Fields(inputs) {
		message = appendText(message, nodeInput, name(input))
	}
	for _, output := range strings.Fields(outputs) {
		message = appendText(message, nodeOutput, name(output))
	}
	domain, kind, found := strings.Cut(operator, ":")
	if !found {
		domain, kind = "", operator
	}
	message = appendText(message, nodeName, "node_"+strings.Fields(outputs)[0])
	message = appendText(message, nodeOperator, kind)
	for _, attribute := range attributes {
		message = appendMessage(message, nodeAttribute, attribute)
	}
	if domain != "" {
		message = appendText(message, nodeDomain, domain)
	}
	return message
}

func integer(name string, value int64) []byte {
	return appendInteger(appendInteger(appendText(nil, attributeName, name), attributeInt, value), attributeType, attributeTypeInt)
}

func integers(name string, values ...int64) []byte {
	message := appendText(nil, attributeName, name)
	for _, value := range values {
		message = appendInteger(message, attributeInts, value)
	}
	return appendInteger(message, attributeType, 7) // INTS
}

func text(name, value string) []byte {
	return appendInteger(appendText(appendText(nil, attributeName, name), 4, value), attributeType, 3) // s, STRING
}

func number(name string, value float32) []byte {
	message := protowire.AppendTag(appendText(nil, attributeName, name), attributeFloat, protowire.Fixed32Type)
	return appendInteger(protowire.AppendFixed32(message, math.Float32bits(value)), attributeType, 1) // FLOAT
}

// tensorAttribute is a constant's value.
func tensorAttribute(value []byte) []byte {
	return appendInteger(appendMessage(appendText(nil, attributeName, "value"), attributeTensor, value), attributeType, attributeTypeTensor)
}

func graphAttribute(name string, m model) []byte {
	return appendInteger(appendMessage(appendText(nil, attributeName, name), attributeGraph, m.graph()), attributeType, 5) // GRAPH
}

// initializer makes a TensorProto of []float32, []float64, []int64, []uint8,
// []int8 or FP16 bits.
func initializer(name string, values any, dims ...int64) []byte {
	var message []byte
	for _, dim := range dims {
		message = appendInteger(message, tensorDims, dim)
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
	message = appendInteger(message, tensorType, int64(kind))
	message = appendText(message, tensorName, name)
	return appendMessage(message, tensorRaw, raw)
}

// shaped is an input or an output of float32 values.
func shaped(name string, dims ...int64) []byte { return typed(name, float32s, dims...) }

func typed(name string, kind elementType, dims ...int64) []byte {
	var shape []byte
	for _, dim := range dims {
		shape = appendMessage(shape, 1, appendInteger(nil, 1, dim)) // dim, dim_value
	}
	tensor := appendMessage(appendInteger(nil, tensorTypeElem, int64(kind)), 2, shape)
	return appendMessage(appendText(nil, infoName, name), infoType, appendMessage(nil, typeTensor, tensor))
}

// ramp makes n values between -1 and 1.
func ramp(n int) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(math.Sin(float64(7*i + 1)))
	}
	return values
}
