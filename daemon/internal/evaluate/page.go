package evaluate

import (
	"bytes"
	_ "embed"
	"html/template"
)

//go:embed report.html.tmpl
var pageSource string

var pageTemplate = template.Must(template.New("report").Parse(pageSource))

// page is the report as one file of HTML that needs nothing else.
func (r *Report) page() ([]byte, error) {
	type classPage struct {
		*ClassReport
		Values                []Fraction
		Curve, Scores, Switch template.HTML
	}
	content := struct {
		*Report
		FigureNames []string
		MeanValues  []Fraction
		Pages       []classPage
		Unscored    int
	}{Report: r, Unscored: r.Unscored()}
	content.FigureNames, content.MeanValues = r.Mean.Named()
	for _, class := range r.order {
		page := classPage{ClassReport: class}
		_, page.Values = class.Named()
		// What package chart draws is escaped there.
		if class.ImageAUROC.Defined() {
			page.Curve = template.HTML(rateCurve("ROC of the images, AUROC "+class.ImageAUROC.String()+" %", class.curve))
		}
		var marks []mark
		if class.AtThreshold != nil {
			marks = append(marks, mark{class.AtThreshold.ImageThreshold, "threshold"})
		}
		page.Scores = template.HTML(histogram("Anomaly scores", "anomaly score", class.scores[0], class.scores[1], marks...))
		page.Switch = template.HTML(switchChart("Where parts switched", class.switches[0], class.switches[1]))
		content.Pages = append(content.Pages, page)
	}
	var page bytes.Buffer
	err := pageTemplate.Execute(&page, content)
	return page.Bytes(), err
}
