package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Every file was written by Pillow or OpenCV; the picture expected of it is
// what Pillow reads or, for 16 bit, its values divided by 257, rounded.
func TestFormats(t *testing.T) {
	expected, err := filepath.Glob("testdata/formats/*.expected.png")
	if err != nil || len(expected) < 34 {
		t.Fatalf("want at least 34 files, found %d, %v", len(expected), err)
	}
	for _, expectation := range expected {
		file := strings.TrimSuffix(expectation, ".expected.png")
		t.Run(filepath.Base(file), func(t *testing.T) {
			picture, err := ReadPicture(file, 0)
			if err != nil {
				t.Fatal(err)
			}
			want := readExpected(t, expectation)
			if picture.Width != want.Bounds().Dx() || picture.Height != want.Bounds().Dy() {
				t.Fatalf("size: want %v, found %dx%d", want.Bounds().Size(), picture.Width, picture.Height)
			}
			// CMYK does not go through libjpeg: Go's inverse transform may
			// round otherwise, which the black then scales down.
			tolerance := 0
			if filepath.Base(file) == "cmyk.jpg" {
				tolerance = 2
			}
			largest := 0
			for y := range picture.Height {
				for x := range picture.Width {
					r, g, b, _ := want.At(x, y).RGBA()
					for channel, value := range []uint32{r, g, b} {
						difference := int(picture.RGB[3*(y*picture.Width+x)+channel]) - int(value>>8)
						largest = max(largest, difference, -difference)
					}
				}
			}
			if largest > tolerance {
				t.Errorf("largest difference: want at most %d, found %d", tolerance, largest)
			}
		})
	}
}

func readExpected(t *testing.T, path string) image.Image {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoded, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

func readFormat(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile("testdata/formats/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// No half picture is ever returned: a part of which the lower half is gray
// must not be inspected.
func TestTruncatedFilesAreRefused(t *testing.T) {
	for _, name := range []string{"rgb.png", "gray16.png", "palette.png", "rgb.jpg", "progressive.jpeg", "gray.jpg", "cmyk.jpg", "rgb.tif", "lzw.tiff", "deflate.tif", "cmyk.tif", "rgb.bmp", "palette.bmp"} {
		t.Run(name, func(t *testing.T) {
			whole := readFormat(t, name)
			for _, length := range []int{1, 2, 8, 20, len(whole) / 4, len(whole) / 2, len(whole) * 3 / 4, len(whole) * 9 / 10} {
				if picture, err := DecodePicture(whole[:length], 0); err == nil {
					t.Errorf("the first %d of %d bytes give a picture of %dx%d", length, len(whole), picture.Width, picture.Height)
				}
			}
		})
	}
}

func TestJPEGWithoutItsEnd(t *testing.T) {
	for _, name := range []string{"rgb.jpg", "progressive.jpeg", "cmyk.jpg"} {
		whole := readFormat(t, name)
		if _, err := DecodePicture(whole[:len(whole)-2], 0); err == nil || !strings.Contains(err.Error(), "damaged or unsupported JPEG") {
			t.Errorf("%s without its end: found %v", name, err)
		}
		if _, err := DecodePicture(append(bytes.Clone(whole), "what a camera appends"...), 0); err != nil {
			t.Errorf("%s with bytes behind its end: %v", name, err)
		}
	}
}

// libjpeg itself would decode this, with a warning on stderr.
func TestJPEGDamagedWithin(t *testing.T) {
	damaged := readFormat(t, "rgb_444.jpg")
	middle := len(damaged) / 2
	copy(damaged[middle:], bytes.Repeat([]byte{0xff, 0x00}, 200))
	if _, err := DecodePicture(damaged, 0); err == nil || !strings.Contains(err.Error(), "damaged or unsupported JPEG") {
		t.Errorf("found %v", err)
	}
}

func TestCorruptFilesDoNotPanic(t *testing.T) {
	for _, name := range []string{"rgb.png", "rgb.jpg", "rgb.tif", "lzw.tiff", "cmyk.tif", "palette.bmp", "orientation_6.jpg"} {
		whole := readFormat(t, name)
		for i := range whole {
			damaged := bytes.Clone(whole)
			damaged[i] ^= 0xff
			if picture, err := DecodePicture(damaged, 1<<20); err == nil && len(picture.RGB) != 3*picture.Width*picture.Height {
				t.Errorf("%s damaged at %d: %d bytes for %dx%d", name, i, len(picture.RGB), picture.Width, picture.Height)
			}
		}
	}
}

// pngOf claims a size without holding the pixels.
func pngOf(width, height uint32) []byte {
	header := append([]byte("IHDR"), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, width), height)...)
	header = append(header, 8, 2, 0, 0, 0)
	file := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	file = append(file, header...)
	return binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(header))
}

func TestReadPictureRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"empty.png":    {nil, "the file is empty"},
		"text.png":     {[]byte("a file of words"), "not a picture that gladd reads: expected PNG, JPEG, TIFF or BMP, found text/plain"},
		"page.jpg":     {[]byte("<html><body>404"), "found text/html"},
		"gif.png":      {[]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), "found image/gif"},
		"header.png":   {[]byte("\x89PNG\r\n\x1a\n"), "damaged or unsupported PNG"},
		"enormous.png": {pngOf(100_000, 100_000), "picture size: expected 1 to 100000000 pixels, found 100000x100000"},
		"huge.png":     {pngOf(1<<31-1, 1<<31-1), "dimension overflow"},
		"hollow.png":   {pngOf(100, 100), "damaged or unsupported PNG"},
		"none.png":     {pngOf(0, 10), "PNG"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, test.content, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := ReadPicture(path, 0)
			if err == nil || !strings.HasPrefix(err.Error(), "picture "+path+": ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want an error with the file and %q, found %v", test.want, err)
			}
		})
	}
	t.Run("a folder", func(t *testing.T) {
		if _, err := ReadPicture(dir, 0); err == nil || !strings.Contains(err.Error(), "expected a file, found a folder") {
			t.Errorf("found %v", err)
		}
	})
	t.Run("a pipe, which would wait for a writer", func(t *testing.T) {
		pipe := filepath.Join(dir, "pipe.png")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPicture(pipe, 0); err == nil || !strings.Contains(err.Error(), "expected a file, found a pipe") {
			t.Errorf("found %v", err)
		}
	})
	t.Run("absent", func(t *testing.T) {
		if _, err := ReadPicture(filepath.Join(dir, "absent.png"), 0); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("found %v", err)
		}
	})
	t.Run("more pixels than allowed", func(t *testing.T) {
		if _, err := ReadPicture("testdata/formats/rgb.png", 37*23-1); err == nil || !strings.Contains(err.Error(), "expected 1 to 850 pixels, found 37x23") {
			t.Errorf("found %v", err)
		}
		if _, err := ReadPicture("testdata/formats/rgb.png", 37*23); err != nil {
			t.Errorf("as many as allowed: %v", err)
		}
	})
}

func TestCheckHealth(t *testing.T) {
	for _, test := range []struct {
		width, height int
		want          string
	}{
		{1, 1, "picture size: expected at least 8x8 px, found 1x1"},
		{4000, 7, "picture size: expected at least 8x8 px, found 4000x7"},
		{8, 8, "<nil>"},
	} {
		picture := &Picture{Width: test.width, Height: test.height}
		if found := fmt.Sprint(picture.CheckHealth()); found != test.want {
			t.Errorf("%dx%d: want %q, found %q", test.width, test.height, test.want, found)
		}
	}
}

func FuzzDecodePicture(f *testing.F) {
	for _, name := range []string{"rgb.png", "cmyk.jpg", "rgb.jpg", "rgb.tif", "palette.bmp"} {
		content, err := os.ReadFile("testdata/formats/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if picture, err := DecodePicture(content, 1<<16); err == nil && len(picture.RGB) != 3*picture.Width*picture.Height {
			t.Errorf("%d bytes for %dx%d", len(picture.RGB), picture.Width, picture.Height)
		}
	})
}
