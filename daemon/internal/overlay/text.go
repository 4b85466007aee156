package overlay

import (
	"image"
	"image/color"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// Font sizes in pixels.
const (
	small = 15
	large = 28
)

// parsedFont is the one font that overlays use; it is part of the program.
var parsedFont = sync.OnceValues(func() (*opentype.Font, error) { return opentype.Parse(gomedium.TTF) })

// text draws on a picture.
type text struct {
	canvas *image.RGBA
	faces  map[float64]font.Face
}

func newText(canvas *image.RGBA) (*text, error) {
	parsed, err := parsedFont()
	if err != nil {
		return nil, err
	}
	faces := map[float64]font.Face{}
	for _, size := range []float64{small, large} {
		face, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
		if err != nil {
			return nil, err
		}
		faces[size] = face
	}
	return &text{canvas: canvas, faces: faces}, nil
}

// draw writes a line from x on, its base at y, cut with an ellipsis where it
// would be wider than width, and returns where it ends.
func (t *text) draw(size float64, ink color.Color, x, y, width int, line string) (end int) {
	drawer := font.Drawer{Dst: t.canvas, Src: image.NewUniform(ink), Face: t.faces[size], Dot: fixed.P(x, y)}
	if drawer.MeasureString(line).Ceil() > width {
		runes := []rune(line)
		for len(runes) > 0 && drawer.MeasureString(string(runes)+"…").Ceil() > width {
			runes = runes[:len(runes)-1]
		}
		if len(runes) == 0 {
			return x
		}
		line = string(runes) + "…"
	}
	drawer.DrawString(line)
	return drawer.Dot.X.Ceil()
}
