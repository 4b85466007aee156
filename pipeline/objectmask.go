package pipeline

import "math"

// ObjectMask says how the object is told from its background.
type ObjectMask string

// The kinds of object mask.
const (
	ObjectMaskNone       ObjectMask = "none"
	ObjectMaskOtsuDark   ObjectMask = "otsu_dark"   // the object is darker than its background
	ObjectMaskOtsuBright ObjectMask = "otsu_bright" // the object is brighter than its background
)

func (kind ObjectMask) valid() bool {
	switch kind {
	case ObjectMaskNone, ObjectMaskOtsuDark, ObjectMaskOtsuBright:
		return true
	}
	return false
}

// The mask's Gaussian, in pixels at the networks' size. The radius is four
// sigma, as in scipy.ndimage.gaussian_filter.
const (
	maskSigma  = 6
	maskRadius = 24
)

// compute returns the mask [size][size] of a prepared picture [height][width][3],
// values 0 to 1: the foreground found by Otsu's method, widened by a Gaussian's
// reach, with soft edges.
func (kind ObjectMask) compute(rgb []byte, width, height, size int) []float64 {
	gray := toGray(rgb)
	threshold := otsuThreshold(gray)
	mask := make([]float64, len(gray))
	for i, value := range gray {
		if (value <= threshold) == (kind == ObjectMaskOtsuDark) {
			mask[i] = 1
		}
	}
	// A Gaussian whose values above 0 are set to 1 is a dilation by its square
	// support: no weight is 0, and mirrored edges bring no pixel from farther.
	transposed := make([]float64, len(mask))
	dilateRows(transposed, mask, width)
	dilateRows(mask, transposed, height)
	blurRows(transposed, mask, width)
	blurRows(mask, transposed, height)
	return resizeAligned(mask, width, height, size)
}

// toGray weighs the channels by ITU-R BT.601 in fixed point of 15 bits, as
// OpenCV does. Pillow's 16 bits differ in rounding.
func toGray(rgb []byte) []byte {
	gray := make([]byte, len(rgb)/3)
	for i := range gray {
		red, green, blue := uint32(rgb[3*i]), uint32(rgb[3*i+1]), uint32(rgb[3*i+2])
		gray[i] = byte((9798*red + 19235*green + 3735*blue + 1<<14) >> 15)
	}
	return gray
}

// otsuThreshold returns the threshold that separates two classes best (Otsu,
// "A Threshold Selection Method from Gray-Level Histograms", 1979), computed
// in the order of OpenCV's getThreshVal_Otsu so that ties fall alike: the
// first maximum wins, and a class with next to no pixels is passed over.
func otsuThreshold(gray []byte) byte {
	const smallest = 0x1p-23 // FLT_EPSILON
	var histogram [256]int
	for _, value := range gray {
		histogram[value]++
	}
	// The explicit conversions keep the compiler from fusing multiplications
	// and additions, which would break ties differently.
	scale := 1 / float64(len(gray))
	var mean float64
	for value, count := range histogram {
		mean += float64(float64(value) * float64(count))
	}
	mean *= scale

	var threshold byte
	var lowShare, lowMean, best float64
	for value, count := range histogram {
		share := float64(count) * scale
		lowMean *= lowShare
		lowShare += share
		highShare := 1 - lowShare
		if min(lowShare, highShare) < smallest || max(lowShare, highShare) > 1-smallest {
			continue
		}
		lowMean = (lowMean + float64(float64(value)*share)) / lowShare
		highMean := (mean - float64(lowShare*lowMean)) / highShare
		between := lowShare * highShare * (lowMean - highMean) * (lowMean - highMean)
		if between > best {
			best, threshold = between, byte(value)
		}
	}
	return threshold
}

// maskKernel holds the Gaussian's weights for the distances 0 to maskRadius.
var maskKernel = func() (kernel [maskRadius + 1]float64) {
	var sum float64
	for distance := range kernel {
		kernel[distance] = math.Exp(-0.5 * float64(distance*distance) / (maskSigma * maskSigma))
		sum += 2 * kernel[distance]
	}
	sum -= kernel[0]
	for distance := range kernel {
		kernel[distance] /= sum
	}
	return kernel
}()

// dilateRows sets to 1 what lies within maskRadius of a 1 in every row of src,
// rows of the given width, and writes the result transposed.
func dilateRows(dst, src []float64, width int) {
	height := len(src) / width
	for y := range height {
		row := src[width*y : width*(y+1)]
		next := 0 // the first pixel that is not decided
		for i, value := range row {
			if value == 0 {
				continue
			}
			for ; next < max(0, i-maskRadius); next++ {
				dst[next*height+y] = 0
			}
			for ; next < min(width, i+maskRadius+1); next++ {
				dst[next*height+y] = 1
			}
		}
		for ; next < width; next++ {
			dst[next*height+y] = 0
		}
	}
}

// blurRows applies the Gaussian to every row of src, rows of the given width,
// and writes the result transposed, so that a second call blurs the columns.
// Edges are mirrored with the edge repeated (d c b a | a b c d | d c b a).
func blurRows(dst, src []float64, width int) {
	height := len(src) / width
	padded := make([]float64, width+2*maskRadius)
	for y := range height {
		row := src[width*y : width*(y+1)]
		for i := range padded {
			padded[i] = row[mirror(i-maskRadius, width)]
		}
		for x := range width {
			center := x + maskRadius
			sum := maskKernel[0] * padded[center]
			for distance := 1; distance <= maskRadius; distance++ {
				sum += maskKernel[distance] * (padded[center-distance] + padded[center+distance])
			}
			dst[x*height+y] = sum
		}
	}
}

// mirror maps an index beyond the edges back into 0 to n-1.
func mirror(i, n int) int {
	i %= 2 * n
	if i < 0 {
		i += 2 * n
	}
	if i >= n {
		i = 2*n - 1 - i
	}
	return i
}

// resizeAligned resizes a plane [height][width] to [size][size], bilinear, so
// that the corners' centers meet (align_corners in PyTorch).
func resizeAligned(plane []float64, width, height, size int) []float64 {
	if width == size && height == size {
		return plane
	}
	rows, columns := alignedPositions(height, size), alignedPositions(width, size)
	resized := make([]float64, size*size)
	for y, row := range rows {
		upper, lower := plane[width*row.low:], plane[width*row.high:]
		for x, column := range columns {
			top := upper[column.low]*(1-column.weight) + upper[column.high]*column.weight
			bottom := lower[column.low]*(1-column.weight) + lower[column.high]*column.weight
			resized[size*y+x] = top*(1-row.weight) + bottom*row.weight
		}
	}
	return resized
}

// position lies between two source pixels; weight is the second one's share.
type position struct {
	low, high int
	weight    float64
}

func alignedPositions(from, to int) []position {
	positions := make([]position, to)
	for i := range positions {
		var at float64
		if to > 1 {
			at = float64(i) * float64(from-1) / float64(to-1)
		}
		low := min(int(at), from-1)
		positions[i] = position{low: low, high: min(low+1, from-1), weight: at - float64(low)}
	}
	return positions
}
