package capture

import (
	"math"
	"strings"
	"testing"

	"gladd/capture/virtualline"
)

func TestMeasureHealth(t *testing.T) {
	paint := func(gray func(x, y int) byte) []byte {
		rgb := make([]byte, 0, 3*16*16)
		for y := range 16 {
			for x := range 16 {
				rgb = append(rgb, gray(x, y), gray(x, y), gray(x, y))
			}
		}
		return rgb
	}
	for name, test := range map[string]struct {
		rgb  []byte
		want Health
	}{
		"gray":  {paint(func(int, int) byte { return 100 }), Health{Brightness: 100}},
		"black": {paint(func(int, int) byte { return 0 }), Health{Clipped: 1}},
		// A ramp has no second differences.
		"ramp": {paint(func(x, _ int) byte { return byte(10 * x) }), Health{Brightness: 75, Contrast: 10 * math.Sqrt(255.0/12), Clipped: 1 / 16.0}},
		// Inside, each pixel differs from its four neighbours by 100.
		"checks": {paint(func(x, y int) byte { return byte(50 + 100*((x+y)%2)) }), Health{Brightness: 100, Contrast: 50, Sharpness: 400 * 14 * 14 / 256.0}},
	} {
		found := MeasureHealth(test.rgb, 16, 16)
		for _, each := range [][2]float64{
			{found.Brightness, test.want.Brightness}, {found.Contrast, test.want.Contrast},
			{found.Sharpness, test.want.Sharpness}, {found.Clipped, test.want.Clipped},
		} {
			if math.Abs(each[0]-each[1]) > 1e-4 {
				t.Errorf("%s: want %+v, found %+v", name, test.want, found)
				break
			}
		}
	}
}

// Limits that were learned from good parts let other parts pass, defective ones
// too, and refuse what a camera does wrong.
func TestHealthLimits(t *testing.T) {
	line, err := virtualline.New(virtualline.Plate, 1, 128)
	if err != nil {
		t.Fatal(err)
	}
	var good []Health
	for i := range 40 {
		good = append(good, MeasureHealth(line.Good("train", i).RGB, 128, 128))
	}
	limits := LearnHealthLimits(good)
	for i := range 40 {
		part := line.Defective("test", i, virtualline.Plate.Defects()[i%9], virtualline.Obvious)
		if err := limits.Check(MeasureHealth(part.RGB, 128, 128)); err != nil {
			t.Errorf("part %d: %v", i, err)
		}
	}
	part := line.Good("test", 0)
	change := func(pixel func(value byte) byte) []byte {
		changed := make([]byte, len(part.RGB))
		for i, value := range part.RGB {
			changed[i] = pixel(value)
		}
		return changed
	}
	blurred := make([]byte, len(part.RGB))
	for y := range 128 {
		for x := range 128 {
			for channel := range 3 {
				sum, count := 0, 0
				for v := max(y-3, 0); v <= min(y+3, 127); v++ {
					for u := max(x-3, 0); u <= min(x+3, 127); u++ {
						sum += int(part.RGB[3*(v*128+u)+channel])
						count++
					}
				}
				blurred[3*(y*128+x)+channel] = byte(sum / count)
			}
		}
	}
	for name, test := range map[string]struct {
		rgb  []byte
		want string
	}{
		"a cap on the lens": {change(func(byte) byte { return 2 }), "too dark: look for the light and the lens"},
		"a failed lamp":     {change(func(value byte) byte { return value / 3 }), "too dark"},
		"overexposed":       {change(func(value byte) byte { return byte(min(3*int(value), 255)) }), "too bright"},
		"fog":               {change(func(value byte) byte { return 90 + value/8 }), "too little contrast"},
		"out of focus":      {blurred, "not sharp: look for the focus, dirt and motion"},
	} {
		err := limits.Check(MeasureHealth(test.rgb, 128, 128))
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "as learned from good parts, found") {
			t.Errorf("%s: want %q, found %v", name, test.want, err)
		}
	}
}
