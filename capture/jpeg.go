package capture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"

	"gocv.io/x/gocv"
)

// decodeJPEG decodes through libjpeg-turbo, so that pixels equal those of
// Pillow and OpenCV; Go's decoder differs by a step here and there.
//
// Go's decodes first all the same: libjpeg fills what is missing or damaged
// with gray and only warns, and half a part must not be inspected. Its pixels
// are taken of CMYK, which OpenCV would convert to RGB in a way of its own.
func decodeJPEG(data []byte, config image.Config) (*Picture, error) {
	decoded, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if config.ColorModel == color.CMYKModel {
		return toRGB(decoded), nil
	}
	mat, err := gocv.IMDecode(data, gocv.IMReadColor|gocv.IMReadIgnoreOrientation)
	if err != nil {
		return nil, err
	}
	defer mat.Close()
	if mat.Empty() {
		return nil, errors.New("OpenCV cannot decode it")
	}
	if mat.Type() != gocv.MatTypeCV8UC3 {
		return nil, fmt.Errorf("expected 8-bit pixels of 3 channels from OpenCV, found %v", mat.Type())
	}
	picture := &Picture{Width: mat.Cols(), Height: mat.Rows(), RGB: mat.ToBytes()}
	for i := 0; i+2 < len(picture.RGB); i += 3 { // OpenCV's order is BGR
		picture.RGB[i], picture.RGB[i+2] = picture.RGB[i+2], picture.RGB[i]
	}
	return picture, nil
}

// OpenCVVersion is the version of OpenCV's shared libraries.
func OpenCVVersion() string { return gocv.OpenCVVersion() }
