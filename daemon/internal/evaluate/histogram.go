package evaluate

import (
	"fmt"
	"slices"
	"strings"
)

// Plot draws the scores' histogram as SVG.
func (c *Calibrated) Plot() []byte {
	return []byte(histogram("Anomaly scores of "+plural(len(c.GoodScores), "good part"), "anomaly score", c.GoodScores, c.BadScores,
		mark{c.Entry.ImageThreshold, "threshold"}))
}

func plural(count int, word string) string {
	if count == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", count, word)
}

// Text draws the scores' histogram with letters: good parts as #, bad ones as
// x, and where the threshold lies.
func (c *Calibrated) Text() string {
	const rows, columns = 16, 50
	all := append(slices.Concat(c.GoodScores, c.BadScores), c.Entry.ImageThreshold)
	low, high := slices.Min(all), slices.Max(all)
	width := max((high-low)/rows, 1e-9)
	row := func(score float64) int { return min(int((score-low)/width), rows-1) }
	var good, bad [rows]int
	for _, score := range c.GoodScores {
		good[row(score)]++
	}
	for _, score := range c.BadScores {
		bad[row(score)]++
	}
	most := 1
	for i := range rows {
		most = max(most, good[i]+bad[i])
	}
	var text strings.Builder
	for i := range rows {
		bar := func(sign string, count int) string {
			return strings.Repeat(sign, (count*columns+most-1)/most)
		}
		line := fmt.Sprintf("%10.4f  %s%s", low+float64(i)*width, bar("#", good[i]), bar("x", bad[i]))
		if i == row(c.Entry.ImageThreshold) {
			line = fmt.Sprintf("%-66s < threshold", line)
		}
		text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return text.String()
}
