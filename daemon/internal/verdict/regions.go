package verdict

import (
	"cmp"
	"math"
	"slices"
)

// Region is a connected part of the anomaly map above the region threshold, in
// pixels of the source picture.
type Region struct {
	X      int `json:"x"`
	Y      int `json:"y"`
	Width  int `json:"width"`
	Height int `json:"height"`
	// Area in pixels of the source picture, rounded.
	Area int `json:"area"`
	// Peak is the map's highest value within.
	Peak float64 `json:"peak"`
}

// FindRegions returns the 8-connected regions of a map [size][size] strictly
// above a threshold, the highest peak first. Boxes cover every source pixel
// that a region touches.
func FindRegions(anomalyMap []float32, size int, threshold float64, sourceWidth, sourceHeight int) []Region {
	regions := []Region{}
	seen := make([]bool, len(anomalyMap))
	above := func(i int) bool { return !seen[i] && float64(anomalyMap[i]) > threshold }
	var stack []int
	for start := range anomalyMap {
		if !above(start) {
			continue
		}
		seen[start] = true
		stack = append(stack, start)
		left, top, right, bottom := size, size, -1, -1
		count, peak := 0, math.Inf(-1)
		for len(stack) > 0 {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			x, y := i%size, i/size
			left, right = min(left, x), max(right, x)
			top, bottom = min(top, y), max(bottom, y)
			count++
			peak = max(peak, float64(anomalyMap[i]))
			for ny := max(y-1, 0); ny <= min(y+1, size-1); ny++ {
				for nx := max(x-1, 0); nx <= min(x+1, size-1); nx++ {
					if neighbor := ny*size + nx; above(neighbor) {
						seen[neighbor] = true
						stack = append(stack, neighbor)
					}
				}
			}
		}
		region := Region{
			X:    left * sourceWidth / size,
			Y:    top * sourceHeight / size,
			Area: int(math.Round(float64(count) * float64(sourceWidth) * float64(sourceHeight) / float64(size*size))),
			Peak: peak,
		}
		// In whole numbers, rounded up: a float's error would add a pixel.
		region.Width = ((right+1)*sourceWidth+size-1)/size - region.X
		region.Height = ((bottom+1)*sourceHeight+size-1)/size - region.Y
		regions = append(regions, region)
	}
	slices.SortStableFunc(regions, func(a, b Region) int { return cmp.Compare(b.Peak, a.Peak) })
	return regions
}
