package pipeline

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"gladd/internal/npy"
)

func TestObjectMaskEqualsOpenCVAndSciPy(t *testing.T) {
	data, err := os.ReadFile("testdata/objectmask/thresholds.json")
	if err != nil {
		t.Fatal(err)
	}
	var thresholds map[string]int
	if err := json.Unmarshal(data, &thresholds); err != nil {
		t.Fatal(err)
	}
	if len(thresholds) < 7 {
		t.Fatalf("want at least 7 pictures, found %v", thresholds)
	}
	for name, threshold := range thresholds {
		rgb, width, height := readRGB(t, "testdata/objectmask/"+name+".png")
		if found := otsuThreshold(toGray(rgb)); int(found) != threshold {
			t.Errorf("%s: threshold: want %d, found %d", name, threshold, found)
		}
		for _, kind := range []ObjectMask{ObjectMaskOtsuDark, ObjectMaskOtsuBright} {
			for _, size := range []int{width, 37} {
				file := fmt.Sprintf("testdata/objectmask/%s.%s.%d.npy", name, kind, size)
				t.Run(file, func(t *testing.T) {
					content, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					expected, err := npy.Decode(content, size, size)
					if err != nil {
						t.Fatal(err)
					}
					for i, found := range kind.compute(rgb, width, height, size) {
						if math.Abs(found-float64(expected[i])) > 1e-6 {
							t.Fatalf("at %d, %d: want %v, found %v", i%size, i/size, expected[i], found)
						}
					}
				})
			}
		}
	}
}

func TestMirror(t *testing.T) {
	// d c b a | a b c d | d c b a, and again beyond.
	want := []int{3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0}
	for i, expected := range want {
		if found := mirror(i-4, 4); found != expected {
			t.Errorf("mirror(%d, 4): want %d, found %d", i-4, expected, found)
		}
	}
}
