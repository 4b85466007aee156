package mixed

import (
	"encoding/binary"
	"io"
	"math"
)

// Limits of binary16 in IEEE 754-2019, table 3.5.
const (
	largestHalf  = 65504
	smallestHalf = 0x1p-14 // the smallest that has all its bits
)

// toHalf rounds to the nearest binary16, ties to even. What is larger than
// binary16 can hold becomes infinite.
func toHalf(value float32) uint16 {
	bits := math.Float32bits(value)
	sign := uint16(bits>>16) & 0x8000
	magnitude := bits &^ (1 << 31)
	switch {
	case magnitude > 0x7f800000: // NaN; it stays one
		return sign | 0x7e00 | uint16(magnitude>>13)&0x3ff
	case magnitude >= 0x477ff000: // 65520, halfway to what would come next
		return sign | 0x7c00
	case magnitude < 0x38800000: // below smallestHalf
		// The last bit of a float32 between 0.5 and 1 is 2^-24, as in a
		// subnormal binary16: the sum rounds as it must.
		shifted := math.Float32frombits(magnitude) + 0.5
		return sign | uint16(math.Float32bits(shifted)-math.Float32bits(0.5))
	}
	odd := magnitude >> 13 & 1
	return sign | uint16((magnitude-(127-15)<<23+0xfff+odd)>>13)
}

// extent is what becomes of a tensor's values in FP16.
type extent struct {
	largest   float32 // magnitude, without infinities
	notFinite int64   // NaN and infinities
	subnormal int64   // values that keep a part of their bits
	flushed   int64   // values that become zero and were none
}

func (e extent) fits() bool { return e.largest <= largestHalf }

func (e *extent) add(value float32) {
	magnitude := float32(math.Abs(float64(value)))
	switch {
	case value != value || magnitude > math.MaxFloat32:
		e.notFinite++
		return
	case magnitude > e.largest:
		e.largest = magnitude
	}
	if magnitude == 0 || magnitude >= smallestHalf {
		return
	}
	if toHalf(magnitude) == 0 {
		e.flushed++
	} else {
		e.subnormal++
	}
}

// chunk is how many bytes of a tensor are converted at a time.
const chunk = 1 << 18

// eachChunk calls a function with the float32 values that a reader gives.
func eachChunk(from io.Reader, size int64, do func(floats []byte) error) error {
	buffer := make([]byte, min(chunk, size))
	for size > 0 {
		part := buffer[:min(chunk, size)]
		if _, err := io.ReadFull(from, part); err != nil {
			return err
		}
		if err := do(part); err != nil {
			return err
		}
		size -= int64(len(part))
	}
	return nil
}

// measure reads float32 values of size bytes.
func measure(from io.Reader, size int64) (extent, error) {
	var found extent
	err := eachChunk(from, size, func(floats []byte) error {
		for ; len(floats) > 0; floats = floats[4:] {
			found.add(math.Float32frombits(binary.LittleEndian.Uint32(floats)))
		}
		return nil
	})
	return found, err
}

// writeHalf writes float32 values of size bytes as FP16.
func writeHalf(to io.Writer, from io.Reader, size int64) error {
	half := make([]byte, min(chunk, size)/2)
	return eachChunk(from, size, func(floats []byte) error {
		for i := range len(floats) / 4 {
			value := math.Float32frombits(binary.LittleEndian.Uint32(floats[4*i:]))
			binary.LittleEndian.PutUint16(half[2*i:], toHalf(value))
		}
		_, err := to.Write(half[:len(floats)/2])
		return err
	})
}
