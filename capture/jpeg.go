package capture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"

	"gocv.io/x/gocv"
)

func jpegConfig(r io.Reader) (image.Config, error) { return jpeg.DecodeConfig(r) }

// decodeJPEG decodes through libjpeg-turbo, so that pixels equal those of
// Pillow and OpenCV; Go's decoder differs by a step here and there. OpenCV
// returns RGB only: it would convert CMYK in its own way, so that goes through
// Go's.
func decodeJPEG(data []byte, config image.Config) (*Picture, error) {
	if err := jpegComplete(data); err != nil {
		return nil, err
	}
	if config.ColorModel == color.CMYKModel {
		return decodeWith(jpeg.Decode)(data, config)
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

// jpegComplete looks for the end of the picture. libjpeg fills what is missing
// of a truncated file with gray and only warns, and a half part must not be
// inspected.
func jpegComplete(data []byte) error {
	const (
		startOfScan = 0xda
		endOfImage  = 0xd9
	)
	truncated := fmt.Errorf("the file ends within the picture, after %d bytes", len(data))
	position := 2 // past the start of the image
	for {
		// A marker is 0xff, more of them as filling, and a code.
		if position >= len(data) || data[position] != 0xff {
			next := bytes.IndexByte(data[min(position, len(data)):], 0xff)
			if next < 0 {
				return truncated
			}
			position += next
		}
		for position < len(data) && data[position] == 0xff {
			position++
		}
		if position >= len(data) {
			return truncated
		}
		code := data[position]
		position++
		switch {
		case code == endOfImage:
			return nil
		case code == 0 || code == 1 || (code >= 0xd0 && code <= 0xd8):
			continue // an escaped 0xff, a restart or another marker without a segment
		}
		if position+2 > len(data) {
			return truncated
		}
		position += int(data[position])<<8 | int(data[position+1])
		if code == startOfScan && position >= len(data) {
			return truncated
		}
	}
}

// OpenCVVersion is the version of OpenCV's shared libraries.
func OpenCVVersion() string { return gocv.OpenCVVersion() }
