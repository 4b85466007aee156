package overlay

import (
	"image"
	"slices"
)

// heatImage lays the anomaly map over the gray picture. The scale is fixed by
// the threshold, so that pictures can be compared with each other: nothing
// below half of it, yellow up to it, red from twice on. Without a threshold the
// map's own peak takes the place of twice the threshold.
func heatImage(c Content, picture *image.RGBA) (drawn *image.RGBA, legend string) {
	legend = "red is twice the threshold"
	full := 0.0
	if c.ImageThreshold != nil {
		full = 2 * *c.ImageThreshold
	}
	if full <= 0 {
		full = float64(slices.Max(c.AnomalyMap))
		legend = "red is its own peak"
	}

	drawn = image.NewRGBA(picture.Bounds())
	for y := range c.Height {
		for x := range c.Width {
			i := 4 * (y*c.Width + x)
			red, green, blue := float64(picture.Pix[i]), float64(picture.Pix[i+1]), float64(picture.Pix[i+2])
			gray := 0.299*red + 0.587*green + 0.114*blue
			share := 0.0
			if full > 0 {
				value := c.AnomalyMap[(y*c.MapSize/c.Height)*c.MapSize+x*c.MapSize/c.Width]
				share = min(max(float64(value)/full, 0), 1)
			}
			opacity, warmth := heat(share)
			for channel, color := range [3]float64{255, 220 * (1 - warmth), 0} {
				drawn.Pix[i+channel] = byte(gray*(1-opacity) + color*opacity + 0.5)
			}
			drawn.Pix[i+3] = 0xff
		}
	}
	return drawn, legend
}

// heat returns opacity and warmth, yellow at 0 and red at 1, for a share of
// the scale.
func heat(share float64) (opacity, warmth float64) {
	const starts, threshold, strongest = 0.25, 0.5, 0.8
	switch {
	case share <= starts:
		return 0, 0
	case share <= threshold:
		return strongest / 2 * (share - starts) / (threshold - starts), 0
	default:
		warmth = (share - threshold) / (1 - threshold)
		return strongest / 2 * (1 + warmth), warmth
	}
}
