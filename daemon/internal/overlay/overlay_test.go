package overlay

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"testing"

	"gladd/daemon/internal/verdict"
)

func content(width, height int, threshold *float64) Content {
	c := Content{
		Title: "a part.png", Evaluation: verdict.NotOK, Reason: &verdict.Reason{Code: verdict.ReasonAnomaly},
		Score: 1.25, ImageThreshold: threshold, Width: width, Height: height, MapSize: 16,
		Picture: make([]byte, 3*width*height), Reconstruction: make([]float32, 3*width*height), AnomalyMap: make([]float32, 16*16),
	}
	for i := range c.Picture {
		c.Picture[i] = 100
	}
	for i := range c.Reconstruction {
		c.Reconstruction[i] = 3 // beyond white
	}
	for i := range 16 * 8 { // the upper half
		c.AnomalyMap[i] = 2
	}
	return c
}

func drawn(t *testing.T, c Content) image.Image {
	t.Helper()
	var file bytes.Buffer
	if err := Write(&file, c); err != nil {
		t.Fatal(err)
	}
	decoded, err := png.Decode(&file)
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

func TestWrite(t *testing.T) {
	threshold := 1.0
	picture := drawn(t, content(64, 64, &threshold))
	if size := picture.Bounds().Size(); size != image.Pt(3*320+4*margin, headHeight+labelSpace+320+margin) {
		t.Errorf("size: found %v", size)
	}
	at := func(panel, x, y int) color.RGBA {
		return picture.At(margin+panel*(320+margin)+x, headHeight+labelSpace+y).(color.RGBA)
	}
	for name, test := range map[string]struct{ found, want color.RGBA }{
		"head":                     {picture.At(2, 2).(color.RGBA), headColor(verdict.NotOK)},
		"picture":                  {at(0, 160, 160), color.RGBA{100, 100, 100, 255}},
		"reconstruction, clamped":  {at(1, 160, 160), color.RGBA{255, 255, 255, 255}},
		"map, no anomaly: gray":    {at(2, 160, 310), color.RGBA{100, 100, 100, 255}},
		"map, twice the threshold": {at(2, 160, 10), color.RGBA{224, 20, 20, 255}},
	} {
		if test.found != test.want {
			t.Errorf("%s: want %v, found %v", name, test.want, test.found)
		}
	}
}

// The scale does not depend on the picture: a good part stays gray.
func TestHeatBelowTheThreshold(t *testing.T) {
	threshold := 10.0
	picture := drawn(t, content(64, 64, &threshold))
	x, y := margin+2*(320+margin)+160, headHeight+labelSpace+10
	if found := picture.At(x, y).(color.RGBA); found != (color.RGBA{100, 100, 100, 255}) {
		t.Errorf("a fifth of the threshold: want gray, found %v", found)
	}
}

func TestWriteOtherSizes(t *testing.T) {
	for _, size := range []image.Point{{8, 400}, {500, 20}, {512, 512}} {
		c := content(size.X, size.Y, nil)
		c.Title = "a very long name of a file that does not fit into the head of any of these pictures, so that it has to be cut somewhere.png"
		if picture := drawn(t, c); picture.Bounds().Dx() < 3*panelSide {
			t.Errorf("%v: found %v", size, picture.Bounds())
		}
	}
	flat := content(64, 64, nil)
	clear(flat.AnomalyMap)
	drawn(t, flat)
	negative := -1.0
	drawn(t, content(64, 64, &negative))
}

func TestHeatRises(t *testing.T) {
	last := -1.0
	for share := 0.0; share <= 1; share += 0.01 {
		opacity, warmth := heat(share)
		if strength := opacity + warmth; strength < last || math.IsNaN(strength) || opacity > 1 || warmth > 1 {
			t.Fatalf("at %v: opacity %v, warmth %v after %v", share, opacity, warmth, last)
		} else {
			last = strength
		}
	}
}
