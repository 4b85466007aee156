package pipeline

import (
	"fmt"
	"math"
)

// Prepare resizes an 8-bit RGB picture [height][width][3] to the size of the
// networks, [toHeight][toWidth][3]. A picture that has that size already is
// returned as it is.
//
// The result is that of Pillow's antialiased BILINEAR, byte for byte: a
// triangle filter as wide as the reduction, weights in fixed point, and 8-bit
// values between the horizontal and the vertical pass (Pillow,
// src/libImaging/Resample.c). The horizontal pass is first, as in Pillow up to
// 12; Pillow 13 takes the vertical one first where the height shrinks by more
// than twice what the width does, which moves a value by at most 1.
func Prepare(rgb []byte, width, height, toWidth, toHeight int) ([]byte, error) {
	for _, side := range []int{width, height, toWidth, toHeight} {
		if side < 1 {
			return nil, fmt.Errorf("prepare picture: expected sides of at least 1 px, found %dx%d to %dx%d", width, height, toWidth, toHeight)
		}
	}
	if len(rgb) != 3*width*height {
		return nil, fmt.Errorf("prepare picture: expected %d bytes for %dx%d RGB, found %d", 3*width*height, width, height, len(rgb))
	}
	if width != toWidth {
		rgb = resizeRows(rgb, width, height, toWidth)
	}
	if height != toHeight {
		rgb = resizeColumns(rgb, toWidth, height, toHeight)
	}
	return rgb, nil
}

// weightBits are the fractional bits of a filter weight. A weight is at most 1
// and a pixel has 8 bits; two more are room for the sum.
const weightBits = 32 - 8 - 2

// tap is the stretch of source pixels that one target pixel is made of.
type tap struct {
	first   int
	weights []int32
}

// triangleTaps returns the taps of every target pixel of one axis.
func triangleTaps(from, to int) []tap {
	scale := float64(from) / float64(to)
	support := max(scale, 1) // half of the triangle's base, in source pixels
	taps := make([]tap, to)
	weights := make([]float64, 0, 2*int(math.Ceil(support))+1)
	for i := range taps {
		center := (float64(i) + 0.5) * scale
		first := max(int(center-support+0.5), 0)
		end := min(int(center+support+0.5), from)
		weights = weights[:0]
		var sum float64
		for j := first; j < end; j++ {
			// The explicit conversions keep the compiler from fusing
			// multiplications and additions, which would round differently
			// from machine to machine.
			distance := math.Abs(float64(float64(j)-center+0.5) * (1 / support))
			weight := max(1-distance, 0)
			weights = append(weights, weight)
			sum += weight
		}
		taps[i] = tap{first: first, weights: make([]int32, len(weights))}
		for j, weight := range weights {
			taps[i].weights[j] = int32(0.5 + float64(weight/sum*(1<<weightBits)))
		}
	}
	return taps
}

func resizeRows(rgb []byte, width, height, toWidth int) []byte {
	taps := triangleTaps(width, toWidth)
	resized := make([]byte, 3*toWidth*height)
	for y := range height {
		row := rgb[3*width*y : 3*width*(y+1)]
		target := resized[3*toWidth*y : 3*toWidth*(y+1)]
		for x, tap := range taps {
			red, green, blue := int32(1<<(weightBits-1)), int32(1<<(weightBits-1)), int32(1<<(weightBits-1))
			source := row[3*tap.first : 3*(tap.first+len(tap.weights))]
			for i, weight := range tap.weights {
				red += weight * int32(source[3*i])
				green += weight * int32(source[3*i+1])
				blue += weight * int32(source[3*i+2])
			}
			target[3*x] = toByte(red)
			target[3*x+1] = toByte(green)
			target[3*x+2] = toByte(blue)
		}
	}
	return resized
}

func resizeColumns(rgb []byte, width, height, toHeight int) []byte {
	stride := 3 * width
	resized := make([]byte, stride*toHeight)
	sums := make([]int32, stride)
	for y, tap := range triangleTaps(height, toHeight) {
		for i := range sums {
			sums[i] = 1 << (weightBits - 1)
		}
		for i, weight := range tap.weights {
			row := rgb[stride*(tap.first+i) : stride*(tap.first+i+1)]
			for j, value := range row {
				sums[j] += weight * int32(value)
			}
		}
		target := resized[stride*y : stride*(y+1)]
		for i, sum := range sums {
			target[i] = toByte(sum)
		}
	}
	return resized
}

// toByte drops the fractional bits of a sum that was rounded beforehand. The
// weights' rounding errors may carry it past 255.
func toByte(sum int32) byte {
	return byte(min(sum>>weightBits, 255))
}

// fillImage turns prepared bytes [H][W][3] into an image [3,H,W] in [-1,1].
func fillImage(image []float32, rgb []byte) {
	plane := len(image) / 3
	for i := range plane {
		for channel := range 3 {
			image[channel*plane+i] = float32(rgb[3*i+channel])/127.5 - 1
		}
	}
}
