// Package capture brings pictures of parts into the program.
package capture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"golang.org/x/image/bmp"
)

// Picture is an 8-bit RGB picture as the camera saw the part: upright, without
// alpha.
type Picture struct {
	Width, Height int
	RGB           []byte // [Height][Width][3]
}

// DefaultMaxPixels is the largest picture that is decoded unless a caller says
// otherwise: beyond any inspection camera, within any box's memory.
const DefaultMaxPixels = 100_000_000

// maxSide is the longest side that is decoded: what JPEG can hold. Resizing
// needs memory for the product of sides before and after.
const maxSide = 65535

// maxFileBytes is the largest file that is read: DefaultMaxPixels of 16-bit
// RGBA, uncompressed, and some.
const maxFileBytes = 1 << 30

// MinSide is the shortest side, in pixels, that a picture may have. Anything
// smaller shows no part.
const MinSide = 8

// CheckHealth refuses pictures in which nothing could be inspected.
func (p *Picture) CheckHealth() error {
	if p.Width < MinSide || p.Height < MinSide {
		return fmt.Errorf("picture size: expected at least %dx%[1]d px, found %dx%d", MinSide, p.Width, p.Height)
	}
	return nil
}

// ReadPicture reads a picture file: PNG, JPEG, TIFF or BMP; gray, RGB, RGBA
// (alpha is dropped), palette or CMYK (converted as Pillow does); 8 or 16 bit
// (16 bit divided by 257, rounded). Its EXIF orientation is applied. A picture
// of more than maxPixels is refused before it is decoded; 0: DefaultMaxPixels.
func ReadPicture(path string, maxPixels int) (*Picture, error) {
	picture, err := readPicture(path, maxPixels)
	if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
		err = pathError.Err // which says no more than the path again
	}
	if err != nil {
		return nil, fmt.Errorf("picture %s: %w", path, err)
	}
	return picture, nil
}

func readPicture(path string, maxPixels int) (*Picture, error) {
	// Before opening, which for a pipe would wait until somebody writes.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("expected a file, found %s", kindOf(info.Mode()))
	case info.Size() > maxFileBytes:
		return nil, fmt.Errorf("expected a file of at most %d bytes, found %d", maxFileBytes, info.Size())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	start := make([]byte, 512)
	n, err := io.ReadFull(file, start)
	if err != nil && n == 0 {
		return nil, fmt.Errorf("the file is empty")
	}
	start = start[:n]
	if formatOf(start) == nil {
		return nil, notAPicture(start)
	}
	data := make([]byte, info.Size())
	if _, err := file.ReadAt(data, 0); err != nil {
		return nil, fmt.Errorf("reading %d bytes: %w", len(data), err)
	}
	return DecodePicture(data, maxPixels)
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return mode.Type().String()
}

// DecodePicture decodes the content of a picture file; see [ReadPicture].
func DecodePicture(data []byte, maxPixels int) (picture *Picture, err error) {
	if maxPixels == 0 {
		maxPixels = DefaultMaxPixels
	}
	format := formatOf(data)
	if format == nil {
		return nil, notAPicture(data)
	}
	// The decoders are meant to return errors; a file is no reason to fall.
	defer func() {
		if caught := recover(); caught != nil {
			picture, err = nil, fmt.Errorf("damaged %s: %v", format.name, caught)
		}
	}()
	config, err := format.config(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("damaged or unsupported %s: %w", format.name, err)
	}
	if config.Width < 1 || config.Height < 1 || config.Width > maxPixels/config.Height {
		return nil, fmt.Errorf("picture size: expected 1 to %d pixels, found %dx%d", maxPixels, config.Width, config.Height)
	}
	if config.Width > maxSide || config.Height > maxSide {
		return nil, fmt.Errorf("picture size: expected sides of at most %d pixels, found %dx%d", maxSide, config.Width, config.Height)
	}
	picture, err = format.decode(data, config)
	if err != nil {
		return nil, fmt.Errorf("damaged or unsupported %s: %w", format.name, err)
	}
	if picture.Width != config.Width || picture.Height != config.Height {
		return nil, fmt.Errorf("damaged %s: expected %dx%d pixels, found %dx%d", format.name, config.Width, config.Height, picture.Width, picture.Height)
	}
	return picture.upright(orientation(data, format)), nil
}

// format is a kind of picture file.
type format struct {
	name   string
	magic  []string
	config func(io.Reader) (image.Config, error)
	decode func(data []byte, config image.Config) (*Picture, error)
}

var formats = []format{
	{"PNG", []string{"\x89PNG\r\n\x1a\n"}, png.DecodeConfig, decodeWith(png.Decode)},
	{"JPEG", []string{"\xff\xd8\xff"}, jpeg.DecodeConfig, decodeJPEG},
	{"TIFF", []string{"II*\x00", "MM\x00*"}, decodeTIFFConfig, decodeTIFF},
	{"BMP", []string{"BM"}, bmp.DecodeConfig, decodeWith(bmp.Decode)},
}

// formatOf tells a file's format from its first bytes.
func formatOf(start []byte) *format {
	for i := range formats {
		for _, magic := range formats[i].magic {
			if bytes.HasPrefix(start, []byte(magic)) {
				return &formats[i]
			}
		}
	}
	return nil
}

func notAPicture(start []byte) error {
	if len(start) == 0 {
		return fmt.Errorf("the file is empty")
	}
	kind, _, _ := strings.Cut(http.DetectContentType(start), ";")
	return fmt.Errorf("not a picture that gladd reads: expected PNG, JPEG, TIFF or BMP, found %s", kind)
}

// decodeWith decodes with a decoder of Go's image interface.
func decodeWith(decode func(io.Reader) (image.Image, error)) func([]byte, image.Config) (*Picture, error) {
	return func(data []byte, _ image.Config) (*Picture, error) {
		decoded, err := decode(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return toRGB(decoded), nil
	}
}

// EncodePNG encodes the picture as a PNG file, quickly rather than small.
func (p *Picture) EncodePNG() ([]byte, error) {
	// An opaque RGBA picture is what package png writes as RGB without going
	// through every pixel's color.
	rgba := image.NewRGBA(image.Rect(0, 0, p.Width, p.Height))
	for from, to := 0, 0; from+2 < len(p.RGB); from, to = from+3, to+4 {
		copy(rgba.Pix[to:to+3], p.RGB[from:from+3])
		rgba.Pix[to+3] = 0xff
	}
	var file bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := encoder.Encode(&file, rgba); err != nil {
		return nil, fmt.Errorf("picture as PNG: %w", err)
	}
	return file.Bytes(), nil
}
