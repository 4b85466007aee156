package evaluate

import (
	"fmt"

	"gladd/capture"
)

// readMask reads a mask and brings it to a map's size by taking the nearest
// pixel. A pixel is part of the defect where it is above a value.
func readMask(path string, above byte, size int) ([]bool, error) {
	picture, err := capture.ReadPicture(path, 0)
	if err != nil {
		return nil, fmt.Errorf("mask: %w", err)
	}
	mask := make([]bool, size*size)
	for y := range size {
		// The source pixel under the middle of the map's.
		from := (2*y + 1) * picture.Height / (2 * size) * picture.Width
		for x := range size {
			i := 3 * (from + (2*x+1)*picture.Width/(2*size))
			mask[y*size+x] = max(picture.RGB[i], picture.RGB[i+1], picture.RGB[i+2]) > above
		}
	}
	return mask, nil
}
