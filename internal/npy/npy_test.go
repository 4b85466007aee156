package npy

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestDecodeWhatNumPyWrote(t *testing.T) {
	file, err := os.ReadFile("../../testdata/golden/tiny-a/noise/good_0.npy")
	if err != nil {
		t.Fatal(err)
	}
	values, err := Decode(file, 4, 8, 8)
	if err != nil {
		t.Fatal(err)
	}
	if again := Encode(values, 4, 8, 8); !slices.Equal(again, file) {
		t.Errorf("encoding it again gives other bytes than NumPy's: %q", again[:128])
	}
}

func TestEncodeAndDecode(t *testing.T) {
	values := []float32{0, -1.5, math.MaxFloat32, 1e-40, float32(math.Inf(1)), 6}
	for _, shape := range [][]int{{6}, {2, 3}, {1, 3, 2}} {
		file := Encode(values, shape...)
		if (len(file)-4*len(values))%64 != 0 {
			t.Errorf("%v: the elements begin at %d, no multiple of 64", shape, len(file)-4*len(values))
		}
		found, err := Decode(file, shape...)
		if err != nil || !slices.Equal(found, values) {
			t.Errorf("%v: want %v, found %v, %v", shape, values, found, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := string(Encode([]float32{1, 2, 3, 4, 5, 6}, 2, 3))
	for name, test := range map[string]struct{ file, want string }{
		"nothing":        {"", "not a NumPy file"},
		"text":           {"once upon a time", "not a NumPy file"},
		"format 2":       {good[:6] + "\x02\x00" + good[8:], "format 1.0, found 2.0"},
		"short header":   {good[:40], "ends within its header"},
		"double":         {strings.Replace(good, "<f4", "<f8", 1), "float32 elements (<f4), found <f8"},
		"big-endian":     {strings.Replace(good, "<f4", ">f4", 1), "found >f4"},
		"another shape":  {strings.Replace(good, "(2, 3)", "(3, 2)", 1), "expected shape [2 3], found [3 2]"},
		"another rank":   {strings.Replace(good, "(2, 3)", "(6,)  ", 1), "found [6]"},
		"Fortran order":  {strings.Replace(good, "False", "True ", 1), "C order"},
		"no shape":       {strings.Replace(good, "shape", "shade", 1), "header with descr, fortran_order and shape"},
		"truncated":      {good[:len(good)-1], "expected 24 bytes of elements, found 23"},
		"too long":       {good + "x", "found 25"},
		"endless number": {strings.Replace(good, "(2, 3), }", "(99999999999999999999999,), }", 1), "expected a shape"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Decode([]byte(test.file), 2, 3); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want an error with %q, found %v", test.want, err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode([]float32{1, 2}, 2))
	f.Add([]byte("\x93NUMPY\x01\x00\x10\x00{'descr': '<f4'}"))
	f.Fuzz(func(_ *testing.T, file []byte) {
		_, _ = Decode(file, 2) // it must not panic
	})
}
