// Package overlay draws what an inspection found: the picture, its
// reconstruction and the anomaly map over the picture, side by side under the
// evaluation.
package overlay

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"

	xdraw "golang.org/x/image/draw"

	"gladd/daemon/internal/verdict"
)

// Content is what is drawn.
type Content struct {
	Title          string
	Evaluation     verdict.Evaluation
	Reason         *verdict.Reason // nil for OK
	Score          float64
	ImageThreshold *float64 // nil: there is none

	Width, Height  int       // of the networks' pictures
	Picture        []byte    // [Height][Width][3], as the networks saw it
	Reconstruction []float32 // [3,Height,Width], black to white in [-1,1]
	AnomalyMap     []float32 // [MapSize,MapSize]
	MapSize        int
}

// Measures in pixels.
const (
	panelSide  = 320 // panels are enlarged to this size at least
	margin     = 12
	headHeight = 52
	labelSpace = 30
)

var (
	background = color.RGBA{0x1e, 0x22, 0x28, 0xff}
	bright     = color.RGBA{0xff, 0xff, 0xff, 0xff}
	muted      = color.RGBA{0xb4, 0xbc, 0xc8, 0xff}
)

// headColor is dark enough for white text on it.
func headColor(evaluation verdict.Evaluation) color.RGBA {
	switch evaluation {
	case verdict.OK:
		return color.RGBA{0x1b, 0x7f, 0x3b, 0xff}
	case verdict.NotOK:
		return color.RGBA{0xb4, 0x23, 0x18, 0xff}
	case verdict.NotDecidable:
		return color.RGBA{0x9a, 0x62, 0x00, 0xff}
	}
	return color.RGBA{0x55, 0x5e, 0x6b, 0xff}
}

// Write draws the content as a PNG.
func Write(w io.Writer, content Content) error {
	factor := max((panelSide+content.Width-1)/content.Width, 1)
	panel := image.Pt(content.Width*factor, content.Height*factor)
	width := 3*panel.X + 4*margin
	canvas := image.NewRGBA(image.Rect(0, 0, width, headHeight+labelSpace+panel.Y+margin))
	draw.Draw(canvas, canvas.Bounds(), image.NewUniform(background), image.Point{}, draw.Src)
	draw.Draw(canvas, image.Rect(0, 0, width, headHeight), image.NewUniform(headColor(content.Evaluation)), image.Point{}, draw.Src)

	text, err := newText(canvas)
	if err != nil {
		return err
	}
	end := text.draw(large, bright, margin, 36, width-2*margin, string(content.Evaluation))
	end = text.draw(small, bright, end+2*margin, 34, width-end-3*margin, content.summary())
	text.draw(small, bright, end+2*margin, 34, width-end-3*margin, content.Title)

	picture, reconstruction := pictureImage(content), reconstructionImage(content)
	heat, legend := heatImage(content, picture)
	for i, column := range []struct {
		label string
		image image.Image
	}{
		{"picture", picture},
		{"reconstruction", reconstruction},
		{"anomaly map: " + legend, heat},
	} {
		left := margin + i*(panel.X+margin)
		text.draw(small, muted, left, headHeight+21, panel.X, column.label)
		at := image.Rectangle{Min: image.Pt(left, headHeight+labelSpace)}
		at.Max = at.Min.Add(panel)
		xdraw.NearestNeighbor.Scale(canvas, at, column.image, column.image.Bounds(), draw.Src, nil)
	}
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	return encoder.Encode(w, canvas)
}

// summary says in a line why the evaluation is what it is.
func (c Content) summary() string {
	if c.ImageThreshold == nil {
		summary := fmt.Sprintf("score %.4g, no threshold", c.Score)
		if c.Reason != nil {
			summary += fmt.Sprintf(" (%s)", c.Reason.Code)
		}
		return summary
	}
	return fmt.Sprintf("score %.4g, threshold %.4g", c.Score, *c.ImageThreshold)
}

func pictureImage(c Content) *image.RGBA {
	drawn := image.NewRGBA(image.Rect(0, 0, c.Width, c.Height))
	for i := range c.Width * c.Height {
		copy(drawn.Pix[4*i:], c.Picture[3*i:3*i+3])
		drawn.Pix[4*i+3] = 0xff
	}
	return drawn
}

func reconstructionImage(c Content) *image.RGBA {
	drawn := image.NewRGBA(image.Rect(0, 0, c.Width, c.Height))
	plane := c.Width * c.Height
	for i := range plane {
		for channel := range 3 {
			// A reconstruction may leave [-1,1].
			value := (c.Reconstruction[channel*plane+i] + 1) * 127.5
			drawn.Pix[4*i+channel] = byte(min(max(value, 0), 255) + 0.5)
		}
		drawn.Pix[4*i+3] = 0xff
	}
	return drawn
}
