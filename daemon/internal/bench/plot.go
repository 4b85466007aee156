package bench

import (
	"fmt"
	"html"
	"strings"
)

// The plot's sizes, in pixels.
const (
	plotWidth, plotLeft, plotRight = 720, 130, 150
	plotTop, barHeight, barGap     = 64, 26, 14
)

// stageColors are those of the stages in their order; distinct for the
// color-blind (Okabe and Ito 2008).
var stageColors = []string{"#56b4e9", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999"}

// Plot draws what a good part costs under each plan, by stage, as SVG.
func (r *Report) Plot() []byte {
	longest := 0.0
	for _, plan := range r.Plans {
		longest = max(longest, plan.Good.Mean)
	}
	height := plotTop + len(r.Plans)*(barHeight+barGap) + 16
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" font-family="system-ui,sans-serif" font-size="12">`, plotWidth, height)
	title := fmt.Sprintf("A good part, ms: %s on %s, %d processors", r.Bundle, r.Machine.Processor, r.Machine.Processors)
	fmt.Fprintf(&svg, `<title>%s</title><rect width="%d" height="%d" fill="#fff"/><text x="12" y="20" font-weight="600">%[1]s</text>`, html.EscapeString(title), plotWidth, height)
	x := 12
	for i, stage := range r.Plans[0].Stages {
		fmt.Fprintf(&svg, `<rect x="%d" y="32" width="10" height="10" fill="%s"/><text x="%d" y="41">%s</text>`, x, stageColors[i], x+14, html.EscapeString(stage.Name))
		x += 30 + 7*len(stage.Name)
	}
	for k, plan := range r.Plans {
		y, x := plotTop+k*(barHeight+barGap), float64(plotLeft)
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="end">%s</text>`, plotLeft-8, y+17, html.EscapeString(plan.Plan))
		for i, stage := range plan.Stages {
			width := stage.MS / longest * (plotWidth - plotLeft - plotRight)
			fmt.Fprintf(&svg, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"><title>%s: %.1f ms</title></rect>`, x, y, width, barHeight, stageColors[i], html.EscapeString(stage.Name), stage.MS)
			x += width
		}
		text := fmt.Sprintf("%.0f ms", plan.Good.Mean)
		if k > 0 {
			text += fmt.Sprintf(", %.2f of %s", r.Against[k-1].Time.Mean, r.Plans[0].Plan)
		}
		fmt.Fprintf(&svg, `<text x="%.1f" y="%d">%s</text>`, x+6, y+17, html.EscapeString(text))
	}
	svg.WriteString(`</svg>`)
	return []byte(svg.String())
}
