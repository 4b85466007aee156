package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"

	cmyk "github.com/hhrutter/tiff"
	"golang.org/x/image/tiff"
)

// Tags of a TIFF's first directory, and their values, that decide who decodes
// it (TIFF 6.0, section 8 and 15).
const (
	tiffCompression = 259
	tiffPhotometric = 262
	tiffTileWidth   = 322

	tiffOldJPEG   = 6
	tiffJPEG      = 7
	tiffSeparated = 5 // inks
)

// tiffDecoder are the two functions of a TIFF decoder.
type tiffDecoder struct {
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

func decodeTIFFConfig(r io.Reader) (image.Config, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return image.Config{}, err
	}
	decoder, err := tiffDecoderOf(data)
	if err != nil {
		return image.Config{}, err
	}
	return decoder.config(bytes.NewReader(data))
}

func decodeTIFF(data []byte, config image.Config) (*Picture, error) {
	decoder, err := tiffDecoderOf(data)
	if err != nil {
		return nil, err
	}
	return decodeWith(decoder.decode)(data, config)
}

// tiffDecoderOf chooses the decoder: the one that knows inks puts tiles in the
// wrong places, and the other knows no inks.
func tiffDecoderOf(data []byte) (tiffDecoder, error) {
	tags, err := tiffTags(data)
	if err != nil {
		return tiffDecoder{}, err
	}
	switch tags[tiffCompression] {
	case tiffOldJPEG, tiffJPEG:
		// The JPEG inside has a size of its own, which no limit would see.
		return tiffDecoder{}, errors.New("JPEG compression inside of TIFF; save it without compression, with LZW or Deflate, or as JPEG")
	}
	if tags[tiffPhotometric] != tiffSeparated {
		return tiffDecoder{tiff.DecodeConfig, tiff.Decode}, nil
	}
	if _, tiled := tags[tiffTileWidth]; tiled {
		return tiffDecoder{}, errors.New("CMYK in tiles; save it in strips or as RGB")
	}
	return tiffDecoder{cmyk.DecodeConfig, cmyk.Decode}, nil
}

// tiffTags reads the first value of every SHORT or LONG tag of the first
// directory that is stored in the directory itself.
func tiffTags(data []byte) (map[uint16]uint32, error) {
	var order binary.ByteOrder = binary.LittleEndian
	if len(data) > 0 && data[0] == 'M' {
		order = binary.BigEndian
	}
	if len(data) < 8 {
		return nil, io.ErrUnexpectedEOF
	}
	start := uint64(order.Uint32(data[4:]))
	if start+2 > uint64(len(data)) {
		return nil, fmt.Errorf("directory at byte %d of %d: %w", start, len(data), io.ErrUnexpectedEOF)
	}
	const entrySize, typeShort, typeLong = 12, 3, 4
	count := uint64(order.Uint16(data[start:]))
	if start+2+count*entrySize > uint64(len(data)) {
		return nil, fmt.Errorf("directory of %d tags at byte %d of %d: %w", count, start, len(data), io.ErrUnexpectedEOF)
	}
	tags := make(map[uint16]uint32, count)
	for i := range count {
		entry := data[start+2+i*entrySize:][:entrySize]
		switch order.Uint16(entry[2:]) {
		case typeShort:
			tags[order.Uint16(entry)] = uint32(order.Uint16(entry[8:]))
		case typeLong:
			tags[order.Uint16(entry)] = order.Uint32(entry[8:])
		}
	}
	return tags, nil
}
