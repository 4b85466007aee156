package capture

import (
	"image"
	"image/color"
)

// toRGB converts a decoded picture. Alpha is dropped, not applied: colours are
// taken as they are stored.
func toRGB(decoded image.Image) *Picture {
	bounds := decoded.Bounds()
	picture := &Picture{Width: bounds.Dx(), Height: bounds.Dy()}
	picture.RGB = make([]byte, 0, 3*picture.Width*picture.Height)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		picture.RGB = appendRow(picture.RGB, decoded, bounds, y)
	}
	return picture
}

func appendRow(rgb []byte, decoded image.Image, bounds image.Rectangle, y int) []byte {
	width := bounds.Dx()
	switch decoded := decoded.(type) {
	case *image.Gray:
		for _, value := range decoded.Pix[decoded.PixOffset(bounds.Min.X, y):][:width] {
			rgb = append(rgb, value, value, value)
		}
	case *image.Gray16:
		row := decoded.Pix[decoded.PixOffset(bounds.Min.X, y):][:2*width]
		for i := 0; i < len(row); i += 2 {
			value := narrow(row[i:])
			rgb = append(rgb, value, value, value)
		}
	case *image.RGBA:
		rgb = append8(rgb, decoded.Pix[decoded.PixOffset(bounds.Min.X, y):][:4*width])
	case *image.NRGBA:
		rgb = append8(rgb, decoded.Pix[decoded.PixOffset(bounds.Min.X, y):][:4*width])
	case *image.RGBA64:
		rgb = append16(rgb, decoded.Pix[decoded.PixOffset(bounds.Min.X, y):][:8*width])
	case *image.NRGBA64:
		rgb = append16(rgb, decoded.Pix[decoded.PixOffset(bounds.Min.X, y):][:8*width])
	case *image.CMYK:
		row := decoded.Pix[decoded.PixOffset(bounds.Min.X, y):][:4*width]
		for i := 0; i < len(row); i += 4 {
			rgb = appendCMYK(rgb, row[i], row[i+1], row[i+2], row[i+3])
		}
	default: // palettes, and what is rare
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			stored := color.NRGBAModel.Convert(decoded.At(x, y)).(color.NRGBA)
			rgb = append(rgb, stored.R, stored.G, stored.B)
		}
	}
	return rgb
}

func append8(rgb, row []byte) []byte {
	for i := 0; i < len(row); i += 4 {
		rgb = append(rgb, row[i], row[i+1], row[i+2])
	}
	return rgb
}

func append16(rgb, row []byte) []byte {
	for i := 0; i < len(row); i += 8 {
		rgb = append(rgb, narrow(row[i:]), narrow(row[i+2:]), narrow(row[i+4:]))
	}
	return rgb
}

// narrow divides a big-endian 16-bit value by 257, rounded, so that full scale
// stays full scale.
func narrow(value []byte) byte {
	return byte(((uint32(value[0])<<8 | uint32(value[1])) + 128) / 257)
}

// appendCMYK converts as Pillow does (src/libImaging/Convert.c, cmyk2rgb):
// each ink takes its share, rounded, of what black leaves.
func appendCMYK(rgb []byte, cyan, magenta, yellow, black byte) []byte {
	light := uint32(255 - black)
	channel := func(ink byte) byte {
		// The rounded share ink*light/255 without a division.
		product := uint32(ink)*light + 128
		return byte(light - (product>>8+product)>>8)
	}
	return append(rgb, channel(cyan), channel(magenta), channel(yellow))
}

// upright applies an EXIF orientation, 1 to 8.
func (p *Picture) upright(orientation int) *Picture {
	if orientation <= 1 || orientation > 8 {
		return p
	}
	turned := &Picture{Width: p.Width, Height: p.Height, RGB: make([]byte, len(p.RGB))}
	if orientation >= 5 {
		turned.Width, turned.Height = p.Height, p.Width
	}
	right, bottom := p.Width-1, p.Height-1
	for y := range turned.Height {
		for x := range turned.Width {
			var fromX, fromY int
			switch orientation {
			case 2: // mirrored
				fromX, fromY = right-x, y
			case 3: // turned by 180 degrees
				fromX, fromY = right-x, bottom-y
			case 4: // upside down
				fromX, fromY = x, bottom-y
			case 5: // mirrored at the main diagonal
				fromX, fromY = y, x
			case 6: // to be turned by 90 degrees clockwise
				fromX, fromY = y, bottom-x
			case 7: // mirrored at the other diagonal
				fromX, fromY = right-y, bottom-x
			case 8: // to be turned by 90 degrees counterclockwise
				fromX, fromY = right-y, x
			}
			copy(turned.RGB[3*(y*turned.Width+x):][:3], p.RGB[3*(fromY*p.Width+fromX):])
		}
	}
	return turned
}
