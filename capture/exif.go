package capture

import (
	"bytes"

	"github.com/bep/imagemeta"
)

// orientation returns the EXIF orientation of a file's content, 1 to 8. Where
// there is none, or none that can be read, that is 1, upright.
func orientation(data []byte, format *format) int {
	found := 1
	var kind imagemeta.ImageFormat
	switch format.name {
	case "JPEG":
		kind = imagemeta.JPEG
	case "PNG":
		kind = imagemeta.PNG
	case "TIFF":
		kind = imagemeta.TIFF
	default:
		return found
	}
	// An error means metadata that cannot be read: there is no orientation to
	// apply, and the pixels are good.
	_, _ = imagemeta.Decode(imagemeta.Options{
		R:           bytes.NewReader(data),
		ImageFormat: kind,
		Sources:     imagemeta.EXIF,
		HandleTag: func(tag imagemeta.TagInfo) error {
			if tag.Tag != "Orientation" {
				return nil
			}
			// A SHORT by the standard; some writers take another whole number.
			var value int
			switch stored := tag.Value.(type) {
			case uint8:
				value = int(stored)
			case uint16:
				value = int(stored)
			case uint32:
				value = int(stored)
			}
			if value >= 1 && value <= 8 {
				found = value
			}
			return nil
		},
	})
	return found
}
