package pipeline

import (
	"bytes"
	"image"
	_ "image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readRGB(t *testing.T, path string) (rgb []byte, width, height int) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoded, _, err := image.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	size := decoded.Bounds().Size()
	for y := range size.Y {
		for x := range size.X {
			r, g, b, _ := decoded.At(x, y).RGBA()
			rgb = append(rgb, byte(r>>8), byte(g>>8), byte(b>>8))
		}
	}
	return rgb, size.X, size.Y
}

func TestPrepareEqualsPillow(t *testing.T) {
	sources, err := filepath.Glob("testdata/prepare/*.source.png")
	if err != nil || len(sources) < 9 {
		t.Fatalf("want at least 9 pictures, found %v, %v", sources, err)
	}
	for _, path := range sources {
		t.Run(filepath.Base(path), func(t *testing.T) {
			source, width, height := readRGB(t, path)
			expected, toWidth, toHeight := readRGB(t, strings.Replace(path, ".source.", ".expected.", 1))
			prepared, err := Prepare(source, width, height, toWidth, toHeight)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(prepared, expected) {
				different, largest := 0, 0
				for i := range prepared {
					if difference := max(int(prepared[i])-int(expected[i]), int(expected[i])-int(prepared[i])); difference > 0 {
						different++
						largest = max(largest, difference)
					}
				}
				t.Errorf("%d of %d bytes differ from Pillow's, by up to %d", different, len(prepared), largest)
			}
		})
	}
}

func TestPrepareLeavesAPictureOfTheRightSizeAlone(t *testing.T) {
	picture := []byte{1, 2, 3, 4, 5, 6}
	prepared, err := Prepare(picture, 2, 1, 2, 1)
	if err != nil || &prepared[0] != &picture[0] {
		t.Errorf("want the same bytes, found %v, %v", prepared, err)
	}
}

func TestPrepareRefusesTheImpossible(t *testing.T) {
	for name, test := range map[string]struct{ bytes, width, height, toWidth, toHeight int }{
		"no picture":  {0, 0, 0, 8, 8},
		"too short":   {11, 2, 2, 8, 8},
		"too long":    {13, 2, 2, 8, 8},
		"to nothing":  {12, 2, 2, 8, 0},
		"not a width": {12, -2, -2, 8, 8},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Prepare(make([]byte, test.bytes), test.width, test.height, test.toWidth, test.toHeight); err == nil {
				t.Error("want an error, found none")
			}
		})
	}
}

func TestFillImage(t *testing.T) {
	image := make([]float32, 6)
	fillImage(image, []byte{0, 51, 255, 255, 102, 0})
	want := []float32{-1, 1, float32(51)/127.5 - 1, float32(102)/127.5 - 1, 1, -1}
	for i := range want {
		if image[i] != want[i] {
			t.Fatalf("want %v, found %v", want, image)
		}
	}
}
