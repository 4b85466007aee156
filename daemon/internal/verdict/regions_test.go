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
	} {
		t.Run(name, func(t *testing.T) {
			if found := FindRegions(anomalyMap, size, test.threshold, test.width, test.height); !slices.Equal(found, test.want) || found == nil {
				t.Errorf("want %v, found %v", test.want, found)
			}
		})
	}
}
