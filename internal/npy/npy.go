// Package npy reads and writes float32 arrays in NumPy's file format, version
// 1.0 (numpy.lib.format): a header that is a Python literal, then the elements
// in C order, little-endian.
package npy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	magic  = "\x93NUMPY"
	prefix = len(magic) + 2 + 2 // magic, version, header length
	// align is the multiple to which the header is padded.
	align = 64
)

var (
	descrField = regexp.MustCompile(`'descr'\s*:\s*'([^']*)'`)
	orderField = regexp.MustCompile(`'fortran_order'\s*:\s*(True|False)`)
	shapeField = regexp.MustCompile(`'shape'\s*:\s*\(([0-9,\s]*)\)`)
)

// Decode returns the elements of an array of a given shape. Any other shape or
// element type is an error.
func Decode(file []byte, shape ...int) ([]float32, error) {
	if len(file) < prefix || !bytes.HasPrefix(file, []byte(magic)) {
		return nil, fmt.Errorf("not a NumPy file")
	}
	if major, minor := file[len(magic)], file[len(magic)+1]; major != 1 {
		return nil, fmt.Errorf("expected NumPy format 1.0, found %d.%d", major, minor)
	}
	end := prefix + int(binary.LittleEndian.Uint16(file[prefix-2:]))
	if end > len(file) {
		return nil, fmt.Errorf("the file ends within its header")
	}
	header := string(file[prefix:end])
	descr, order, dimensions := descrField.FindStringSubmatch(header), orderField.FindStringSubmatch(header), shapeField.FindStringSubmatch(header)
	if descr == nil || order == nil || dimensions == nil {
		return nil, fmt.Errorf("expected a header with descr, fortran_order and shape, found %q", header)
	}
	if descr[1] != "<f4" {
		return nil, fmt.Errorf("expected float32 elements (<f4), found %s", descr[1])
	}
	found, err := parseShape(dimensions[1])
	if err != nil {
		return nil, err
	}
	if !slices.Equal(found, shape) {
		return nil, fmt.Errorf("expected shape %v, found %v", shape, found)
	}
	if order[1] == "True" && len(shape) > 1 {
		return nil, fmt.Errorf("expected elements in C order, found Fortran order")
	}
	elements := 1
	for _, dimension := range shape {
		elements *= dimension
	}
	body := file[end:]
	if len(body) != 4*elements {
		return nil, fmt.Errorf("expected %d bytes of elements, found %d", 4*elements, len(body))
	}
	values := make([]float32, elements)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(body[4*i:]))
	}
	return values, nil
}

func parseShape(text string) ([]int, error) {
	var shape []int
	for field := range strings.SplitSeq(text, ",") {
		if field = strings.TrimSpace(field); field == "" {
			continue
		}
		dimension, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("expected a shape, found (%s)", text)
		}
		shape = append(shape, dimension)
	}
	return shape, nil
}

// Encode returns the file for an array; values has as many elements as the
// shape says.
func Encode(values []float32, shape ...int) []byte {
	dimensions := make([]string, len(shape))
	for i, dimension := range shape {
		dimensions[i] = strconv.Itoa(dimension)
	}
	tuple := strings.Join(dimensions, ", ")
	if len(shape) == 1 {
		tuple += ","
	}
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", tuple)
	padding := (align - (prefix+len(header)+1)%align) % align
	header += strings.Repeat(" ", padding) + "\n"

	file := make([]byte, 0, prefix+len(header)+4*len(values))
	file = append(file, magic...)
	file = append(file, 1, 0)
	file = binary.LittleEndian.AppendUint16(file, uint16(len(header)))
	file = append(file, header...)
	for _, value := range values {
		file = binary.LittleEndian.AppendUint32(file, math.Float32bits(value))
	}
	return file
}
