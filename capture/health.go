package capture

import (
	"fmt"
	"math"
)

// Health says in numbers how fit a picture is for inspection.
type Health struct {
	Brightness float64 `json:"brightness"` // mean of the gray values, 0 to 255
	Contrast   float64 `json:"contrast"`   // their standard deviation
	Sharpness  float64 `json:"sharpness"`  // mean size of their second differences
	Clipped    float64 `json:"clipped"`    // share of the pixels that are black or white
}

// MeasureHealth measures an 8-bit RGB picture [height][width][3].
func MeasureHealth(rgb []byte, width, height int) Health {
	gray := make([]int32, width*height)
	var sum, squares, clipped float64
	for i := range gray {
		r, g, b := rgb[3*i], rgb[3*i+1], rgb[3*i+2]
		// ITU-R BT.601, in thousandths.
		gray[i] = 299*int32(r) + 587*int32(g) + 114*int32(b)
		value := float64(gray[i]) / 1000
		sum += value
		squares += value * value
		if max(r, g, b) == 0 || min(r, g, b) == 255 {
			clipped++
		}
	}
	var differences float64
	for y := 1; y < height-1; y++ {
		for x := 1; x < width-1; x++ {
			i := y*width + x
			difference := 4*gray[i] - gray[i-1] - gray[i+1] - gray[i-width] - gray[i+width]
			differences += float64(max(difference, -difference)) / 1000
		}
	}
	count := float64(len(gray))
	mean := sum / count
	return Health{
		Brightness: mean,
		Contrast:   math.Sqrt(max(squares/count-mean*mean, 0)),
		Sharpness:  differences / count,
		Clipped:    clipped / count,
	}
}

// Limits are the lowest and the highest value that is allowed.
type Limits struct{ Low, High float64 }

// HealthLimits say which pictures are fit for inspection.
type HealthLimits struct{ Brightness, Contrast, Sharpness, Clipped Limits }

// LearnHealthLimits learns limits from pictures of good parts. They are wide,
// for they are to find what the camera does wrong (a cap on the lens, a lamp
// that failed, a focus that was lost), not parts: beyond the extremes seen by
// once their distance, and by no less than a floor; sharpness down to half.
func LearnHealthLimits(pictures []Health) HealthLimits {
	learn := func(value func(Health) float64, floor float64) Limits {
		low, high := math.Inf(1), math.Inf(-1)
		for _, picture := range pictures {
			low, high = min(low, value(picture)), max(high, value(picture))
		}
		margin := max(high-low, floor)
		return Limits{Low: max(low-margin, 0), High: high + margin}
	}
	limits := HealthLimits{
		Brightness: learn(func(h Health) float64 { return h.Brightness }, 12),
		Contrast:   learn(func(h Health) float64 { return h.Contrast }, 6),
		Sharpness:  learn(func(h Health) float64 { return h.Sharpness }, 1),
		Clipped:    learn(func(h Health) float64 { return h.Clipped }, 0.05),
	}
	sharpest := math.Inf(1)
	for _, picture := range pictures {
		sharpest = min(sharpest, picture.Sharpness)
	}
	limits.Sharpness.Low = sharpest / 2
	limits.Brightness.High = min(limits.Brightness.High, 255)
	limits.Clipped.High = min(limits.Clipped.High, 1)
	return limits
}

// Check refuses a picture that is not fit for inspection.
func (l HealthLimits) Check(picture Health) error {
	for _, each := range []struct {
		value        float64
		limits       Limits
		below, above string
	}{
		{picture.Brightness, l.Brightness, "too dark: look for the light and the lens", "too bright: look for the light and the exposure"},
		{picture.Contrast, l.Contrast, "too little contrast: look for fog, and for a part", "too much contrast: look for the light"},
		{picture.Sharpness, l.Sharpness, "not sharp: look for the focus, dirt and motion", "too much noise: look for the gain"},
		{picture.Clipped, l.Clipped, "", "too much black or white: look for the exposure"},
	} {
		word := each.below
		if each.value > each.limits.High {
			word = each.above
		} else if each.value >= each.limits.Low {
			continue
		}
		return fmt.Errorf("picture %s (expected %.4g to %.4g, as learned from good parts, found %.4g)", word, each.limits.Low, each.limits.High, each.value)
	}
	return nil
}
