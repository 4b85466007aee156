package evaluate

import (
	"cmp"
	"fmt"
	"html"
	"maps"
	"math"
	"slices"
	"strings"
)

// Charts are SVG that stands by itself and in a page; the colors are those of
// chartStyle.
const (
	chartWidth  = 460
	chartHeight = 250
	chartLeft   = 44
	chartRight  = 14
	chartTop    = 30
	chartBottom = 40
)

const chartStyle = `.chart{font:12px system-ui,sans-serif;background:#fff}.chart text{fill:#3b4352}.chart .head{font-weight:600}` +
	`.chart .axis{stroke:#9aa3b2}.chart .grid{stroke:#e6e9ee}.chart .good{fill:#2a9d8f}.chart .bad{fill:#e07a3f}` +
	`.chart .label{paint-order:stroke;stroke:#fff;stroke-width:4px}.chart .mark{stroke:#b42318;stroke-dasharray:4 3}.chart .line{fill:none;stroke:#31577d;stroke-width:2}`

// chart draws with an x axis from low to high and a y axis from 0 to top.
type chart struct {
	strings.Builder
	low, high, top float64
}

func newChart(title, xLabel string, low, high, top float64) *chart {
	c := &chart{low: low, high: high, top: top}
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img"><title>%[3]s</title><style>%[4]s</style>`,
		chartWidth, chartHeight, html.EscapeString(title), chartStyle)
	fmt.Fprintf(c, `<text class="head" x="%d" y="18">%s</text>`, chartLeft, html.EscapeString(title))
	fmt.Fprintf(c, `<text x="%d" y="%d" text-anchor="middle">%s</text>`, (chartLeft+chartWidth-chartRight)/2, chartHeight-6, html.EscapeString(xLabel))
	for i := range 5 {
		y := top * float64(i) / 4
		fmt.Fprintf(c, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1[3]f"/><text x="%[4]d" y="%.1f" text-anchor="end">%.3g</text>`,
			chartLeft, chartWidth-chartRight, c.y(y), chartLeft-6, c.y(y)+4, y)
	}
	fmt.Fprintf(c, `<line class="axis" x1="%d" x2="%d" y1="%.1f" y2="%.1[3]f"/>`, chartLeft, chartWidth-chartRight, c.y(0))
	return c
}

func (c *chart) x(value float64) float64 {
	return chartLeft + (value-c.low)/(c.high-c.low)*(chartWidth-chartLeft-chartRight)
}

func (c *chart) y(value float64) float64 {
	return chartHeight - chartBottom - value/c.top*(chartHeight-chartTop-chartBottom)
}

func (c *chart) ticks() {
	for i := range 6 {
		value := c.low + (c.high-c.low)*float64(i)/5
		fmt.Fprintf(c, `<text x="%.1f" y="%d" text-anchor="middle">%.3g</text>`, c.x(value), chartHeight-chartBottom+15, value)
	}
}

func (c *chart) bar(class string, from, to, base, height float64, label string) {
	if height > 0 {
		fmt.Fprintf(c, `<rect class="%s" x="%.1f" width="%.1f" y="%.1f" height="%.1f"><title>%s</title></rect>`,
			class, c.x(from)+0.5, max(c.x(to)-c.x(from)-1, 1), c.y(base+height), c.y(base)-c.y(base+height), html.EscapeString(label))
	}
}

func (c *chart) legend(words ...string) {
	at := chartWidth - chartRight
	for i, class := range []string{"bad", "good"} {
		word := words[len(words)-1-i]
		if word == "" {
			continue
		}
		at -= 8*len(word) + 18
		fmt.Fprintf(c, `<rect class="%s" x="%d" y="9" width="10" height="10"/><text x="%d" y="18">%s</text>`, class, at, at+14, html.EscapeString(word))
	}
}

func (c *chart) end() string {
	c.WriteString("</svg>")
	return c.String()
}

// wholeQuarters is the top of an axis of counts whose quarters are whole.
func wholeQuarters(top float64) float64 { return max(math.Ceil(top/4), 1) * 4 }

// mark is a line across a histogram.
type mark struct {
	at    float64
	label string
}

// histogram draws how scores of good and defective parts are spread.
func histogram(title, xLabel string, good, defective []float64, marks ...mark) string {
	all := slices.Concat(good, defective)
	for _, each := range marks {
		all = append(all, each.at)
	}
	if len(all) == 0 {
		return ""
	}
	low, high := slices.Min(all), slices.Max(all)
	margin := (high - low) / 50
	if margin == 0 {
		margin = max(math.Abs(high)/50, 1e-6)
	}
	low, high = low-margin, high+margin
	const bins = 40
	var counts [2][bins]float64
	for kind, values := range [][]float64{good, defective} {
		for _, value := range values {
			counts[kind][min(int((value-low)/(high-low)*bins), bins-1)]++
		}
	}
	top := 0.0
	for i := range bins {
		top = max(top, counts[0][i]+counts[1][i])
	}
	c := newChart(title, xLabel, low, high, wholeQuarters(top))
	for i := range bins {
		from, to := low+(high-low)*float64(i)/bins, low+(high-low)*float64(i+1)/bins
		c.bar("good", from, to, 0, counts[0][i], fmt.Sprintf("%.4g to %.4g: %.0f good", from, to, counts[0][i]))
		c.bar("bad", from, to, counts[0][i], counts[1][i], fmt.Sprintf("%.4g to %.4g: %.0f defective", from, to, counts[1][i]))
	}
	for _, each := range marks {
		anchor := "start"
		offset := 4.0
		if each.at > (low+high)/2 {
			anchor, offset = "end", -4
		}
		fmt.Fprintf(c, `<line class="mark" x1="%.1f" x2="%.1[1]f" y1="%d" y2="%.1f"/><text class="label" x="%.1f" y="%d" text-anchor="%s">%s</text>`,
			c.x(each.at), chartTop, c.y(0), c.x(each.at)+offset, chartTop+10, anchor, html.EscapeString(fmt.Sprintf("%s %.4g", each.label, each.at)))
	}
	c.ticks()
	c.legend("good", word(len(defective) > 0, "defective"))
	return c.end()
}

func word(when bool, text string) string {
	if when {
		return text
	}
	return ""
}

// rateCurve draws a receiver operating characteristic.
func rateCurve(title string, points []RatePoint) string {
	c := newChart(title, "false positive rate", 0, 1, 1)
	fmt.Fprintf(c, `<line class="axis" stroke-dasharray="2 4" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><polyline class="line" points="`, c.x(0), c.x(1), c.y(0), c.y(1))
	for _, point := range points {
		fmt.Fprintf(c, "%.1f,%.1f ", c.x(point.FalsePositive), c.y(point.TruePositive))
	}
	c.WriteString(`"/>`)
	c.ticks()
	return c.end()
}

// switchChart draws where good and defective parts switched, the first step on
// the left.
func switchChart(title string, good, defective switchBins) string {
	points := slices.Collect(maps.Keys(good))
	for point := range defective {
		if _, both := good[point]; !both {
			points = append(points, point)
		}
	}
	slices.SortFunc(points, func(a, b switchPoint) int {
		return cmp.Or(cmp.Compare(b.Timestep, a.Timestep), cmp.Compare(b.Reason, a.Reason))
	})
	top := 0.0
	for _, point := range points {
		top = max(top, float64(good[point]+defective[point]))
	}
	c := newChart(title, "timestep of the switch (* not by the threshold)", 0, float64(max(len(points), 1)), wholeQuarters(top))
	for i, point := range points {
		label := fmt.Sprintf("timestep %d, %s: %d good, %d defective", point.Timestep, point.Reason, good[point], defective[point])
		c.bar("good", float64(i)+0.15, float64(i)+0.85, 0, float64(good[point]), label)
		c.bar("bad", float64(i)+0.15, float64(i)+0.85, float64(good[point]), float64(defective[point]), label)
		if len(points) <= 16 || i%(len(points)/12+1) == 0 {
			star := word(point.Reason != "threshold", "*")
			fmt.Fprintf(c, `<text x="%.1f" y="%d" text-anchor="middle">%d%s</text>`, c.x(float64(i)+0.5), chartHeight-chartBottom+15, point.Timestep, star)
		}
	}
	c.legend("good", word(len(defective) > 0, "defective"))
	return c.end()
}
