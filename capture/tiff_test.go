package capture

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

const tileSide = 16

// tag is an entry of a TIFF's directory: kind 1 BYTE, 3 SHORT, 4 LONG.
type tag struct {
	id, kind uint16
	values   []uint32
}

// writeTIFF writes a TIFF of RGB in tiles, uncompressed, with more tags or
// others.
func writeTIFF(order binary.AppendByteOrder, width, height int, rgb []byte, changes ...tag) []byte {
	across, down := (width+tileSide-1)/tileSide, (height+tileSide-1)/tileSide
	file := []byte("II*\x00")
	if order.String() == binary.BigEndian.String() {
		file = []byte("MM\x00*")
	}
	file = order.AppendUint32(file, 0) // the directory's place, set below
	var offsets, counts []uint32
	for tile := range across * down {
		offsets = append(offsets, uint32(len(file)))
		counts = append(counts, 3*tileSide*tileSide)
		for y := range tileSide {
			for x := range tileSide {
				column, row := tile%across*tileSide+x, tile/across*tileSide+y
				if column < width && row < height {
					file = append(file, rgb[3*(row*width+column):][:3]...)
				} else {
					file = append(file, 0, 0, 0)
				}
			}
		}
	}
	tags := []tag{
		{256, 4, []uint32{uint32(width)}}, {257, 4, []uint32{uint32(height)}}, {258, 3, []uint32{8, 8, 8}},
		{tiffCompression, 3, []uint32{1}}, {tiffPhotometric, 3, []uint32{2}}, {277, 3, []uint32{3}},
		{tiffTileWidth, 3, []uint32{tileSide}}, {323, 3, []uint32{tileSide}}, {324, 4, offsets}, {325, 4, counts},
	}
	for _, change := range changes {
		tags = slices.DeleteFunc(tags, func(other tag) bool { return other.id == change.id })
		tags = append(tags, change)
	}
	slices.SortFunc(tags, func(a, b tag) int { return int(a.id) - int(b.id) })

	encode := func(entry tag) []byte {
		var encoded []byte
		for _, value := range entry.values {
			switch entry.kind {
			case 1:
				encoded = append(encoded, byte(value))
			case 3:
				encoded = order.AppendUint16(encoded, uint16(value))
			default:
				encoded = order.AppendUint32(encoded, value)
			}
		}
		return encoded
	}
	directory := order.AppendUint16(nil, uint16(len(tags)))
	for _, entry := range tags {
		encoded := encode(entry)
		directory = order.AppendUint16(directory, entry.id)
		directory = order.AppendUint16(directory, entry.kind)
		directory = order.AppendUint32(directory, uint32(len(entry.values)))
		if len(encoded) > 4 {
			directory = order.AppendUint32(directory, uint32(len(file)))
			file = append(file, encoded...)
		} else {
			directory = append(directory, append(encoded, 0, 0, 0, 0)[:4]...)
		}
	}
	copy(file[4:], order.AppendUint32(nil, uint32(len(file))))
	return append(append(file, directory...), 0, 0, 0, 0)
}

func gradient(width, height int) []byte {
	rgb := make([]byte, 0, 3*width*height)
	for y := range height {
		for x := range width {
			rgb = append(rgb, byte(5*x), byte(7*y), byte(x+y))
		}
	}
	return rgb
}

func TestTiledTIFF(t *testing.T) {
	const width, height = 45, 33
	rgb := gradient(width, height)
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		picture, err := DecodePicture(writeTIFF(order, width, height, rgb), 0)
		if err != nil {
			t.Fatal(err)
		}
		if picture.Width != width || picture.Height != height || !bytes.Equal(picture.RGB, rgb) {
			t.Errorf("%v: the pixels are not where they were written", order)
		}
	}
}

func TestOrientationOfAnyWholeNumber(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		for kind, name := range map[uint16]string{1: "BYTE", 3: "SHORT", 4: "LONG"} {
			picture, err := DecodePicture(writeTIFF(order, 20, 10, gradient(20, 10), tag{274, kind, []uint32{6}}), 0)
			if err != nil {
				t.Fatal(err)
			}
			if picture.Width != 10 || picture.Height != 20 {
				t.Errorf("%v %s: want the picture turned to 10x20, found %dx%d", order, name, picture.Width, picture.Height)
			}
		}
	}
}

func TestTIFFRefuses(t *testing.T) {
	rgb := gradient(20, 10)
	for name, test := range map[string]struct {
		change tag
		want   string
	}{
		"JPEG inside":     {tag{tiffCompression, 3, []uint32{tiffJPEG}}, "JPEG compression inside of TIFF"},
		"old JPEG inside": {tag{tiffCompression, 3, []uint32{tiffOldJPEG}}, "JPEG compression inside of TIFF"},
		"CMYK in tiles":   {tag{tiffPhotometric, 3, []uint32{tiffSeparated}}, "CMYK in tiles"},
		"a long side":     {tag{256, 4, []uint32{maxSide + 1}}, "expected sides of at most 65535 pixels, found 65536x10"},
		"a high side":     {tag{257, 4, []uint32{maxSide + 1}}, "expected sides of at most 65535 pixels, found 20x65536"},
	} {
		if _, err := DecodePicture(writeTIFF(binary.LittleEndian, 20, 10, rgb, test.change), 0); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: want an error with %q, found %v", name, test.want, err)
		}
	}
}
