package verdict

import (
	"slices"
	"strings"
	"testing"
)

// mapOf reads a map of digits, each a tenth.
func mapOf(rows ...string) (anomalyMap []float32, size int) {
	for _, digit := range strings.Join(rows, "") {
		anomalyMap = append(anomalyMap, float32(digit-'0')/10)
	}
	return anomalyMap, len(rows)
}

// Every pixel of a map is a region of its own size, whatever the sizes.
func TestRegionBoxesAreExact(t *testing.T) {
	for size := 1; size <= 64; size++ {
		for _, times := range []int{1, 3, 7, 11, 49} {
			anomalyMap := make([]float32, size*size)
			last := size*size - 1
			anomalyMap[last] = 1
			found := FindRegions(anomalyMap, size, 0.5, size*times, size*times)
			corner := (size - 1) * times
			want := []Region{{corner, corner, times, times, times * times, 1}}
			if !slices.Equal(found, want) {
				t.Errorf("map of %d, picture %d times as large: want %v, found %v", size, times, want, found)
			}
		}
	}
}

func TestFindRegions(t *testing.T) {
	anomalyMap, size := mapOf(
		"0000000009",
		"0550000000",
		"0060000000",
		"0007000000",
		"0000000000",
		"0000000000",
		"0000440000",
		"0000440000",
		"0000000000",
		"8000000002",
	)
	tenth := func(digit int) float64 { return float64(float32(digit) / 10) }
	for name, test := range map[string]struct {
		threshold     float64
		width, height int
		want          []Region
	}{
		"in a picture of the map's size": {0.3, 10, 10, []Region{
			{9, 0, 1, 1, 1, tenth(9)}, {0, 9, 1, 1, 1, tenth(8)}, {1, 1, 3, 3, 4, tenth(7)}, {4, 6, 2, 2, 4, tenth(4)},
		}},
		"in a larger picture": {0.55, 40, 20, []Region{
			{36, 0, 4, 2, 8, tenth(9)}, {0, 18, 4, 2, 8, tenth(8)}, {8, 4, 8, 4, 16, tenth(7)},
		}},
		// A box covers all pixels that it touches.
		"in a smaller picture":           {0.65, 4, 3, []Region{{3, 0, 1, 1, 0, tenth(9)}, {0, 2, 1, 1, 0, tenth(8)}, {1, 0, 1, 2, 0, tenth(7)}}},
		"the threshold must be exceeded": {tenth(9), 10, 10, []Region{}},
		"everything":                     {-1, 10, 10, []Region{{0, 0, 10, 10, 100, tenth(9)}}},
		// 1/49 has no exact float: boxes are computed in whole numbers.
		"no rounding error": {0.85, 490, 70, []Region{{441, 0, 49, 7, 343, tenth(9)}}},
	} {
		t.Run(name, func(t *testing.T) {
			if found := FindRegions(anomalyMap, size, test.threshold, test.width, test.height); !slices.Equal(found, test.want) || found == nil {
				t.Errorf("want %v, found %v", test.want, found)
			}
		})
	}
}
