package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Write writes the report as tables for people.
func (r *Report) Write(out io.Writer) error {
	fmt.Fprintf(out, "%s, %s, %d processors (%s), %s, %s\nbundle %s, %d good and %d defective parts of %s\n",
		r.Software, r.Machine.Processor, r.Machine.Processors, r.Machine.OS, r.Machine.Library, r.Machine.Precision, r.Bundle, r.Good, r.Bad, r.Data)

	table := tables{tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)}
	table.head("A good part, ms in the mean", r.plans()...)
	table.row("whole", each(r.Plans, func(c Costs) string { return fmt.Sprintf("%.1f (%.1f to %.1f)", c.Good.Mean, c.Good.Low, c.Good.High) })...)
	for i, stage := range r.Plans[0].Stages {
		table.row(stage.Name, each(r.Plans, func(c Costs) string { return fmt.Sprintf("%.1f", c.Stages[i].MS) })...)
	}
	table.row("comparisons", each(r.Plans, func(c Costs) string { return fmt.Sprintf("%.2f", c.Pairs) })...)
	table.row("noise predictions", each(r.Plans, func(c Costs) string { return fmt.Sprint(c.Calls.Predictions) })...)
	if r.Bad > 0 {
		table.row("a defective part, ms", each(r.Plans, func(c Costs) string { return fmt.Sprintf("%.1f", c.BadMean) })...)
		table.row("its comparisons", each(r.Plans, func(c Costs) string { return fmt.Sprintf("%.2f", c.BadPairs) })...)
	}
	table.row("the slowest part, ms", each(r.Plans, func(c Costs) string { return fmt.Sprintf("%.1f", c.Slowest) })...)
	table.row("time inside the networks", each(r.Plans, func(c Costs) string { return percent(c.Networks) })...)

	if len(r.Against) > 0 {
		first := r.Plans[0].Plan
		table.head("Beside "+first, each(r.Against, func(b Beside) string { return b.Plan })...)
		table.row("time of a good part", each(r.Against, func(b Beside) string {
			return fmt.Sprintf("%.3f (%.3f to %.3f)", b.Time.Mean, b.Time.Low, b.Time.High)
		})...)
		table.row("the slowest part to "+first+"'s good part", each(r.Against, func(b Beside) string { return fmt.Sprintf("%.3f", b.SlowestToGood) })...)
		table.row("same switch", each(r.Against, func(b Beside) string { return percent(b.SameSwitch) })...)
		table.row("score's difference, largest", each(r.Against, func(b Beside) string { return fmt.Sprintf("%.4g", b.LargestDifference) })...)
		table.row("in the mean", each(r.Against, func(b Beside) string { return fmt.Sprintf("%.4g", b.MeanDifference) })...)
		table.row("same verdict", each(r.Against, func(b Beside) string { return optional(b.SameVerdict, percent) })...)
		if r.Bad > 0 {
			figure := func(v float64) string { return fmt.Sprintf("%.4f", v) }
			table.row("image AUROC", each(r.Against, func(b Beside) string {
				return optional(b.AUROC, figure) + " (" + first + " " + optional(b.FirstAUROC, figure) + ")"
			})...)
			table.row("its difference", each(r.Against, func(b Beside) string {
				return fmt.Sprintf("%+.4f (%+.4f to %+.4f)", b.Difference.Mean, b.Difference.Low, b.Difference.High)
			})...)
		}
	}

	table.head("A call for several parts, ms each", "1", "2", "4", "8")
	for i := 0; i+4 <= len(r.Batches); i += 4 {
		table.row(r.Batches[i].Call, each(r.Batches[i:i+4], func(b Batch) string { return fmt.Sprintf("%.2f", b.MS) })...)
	}

	if len(r.Loads) > 0 {
		table.head("Parts that come at random: until their score, ms", "a second", "median", "95 of 100", "longest")
		for _, load := range r.Loads {
			table.row(fmt.Sprintf("%s at %s of its capacity", load.Plan, percent(load.Capacity)), fmt.Sprintf("%.2f", load.Rate),
				fmt.Sprintf("%.0f", load.Median), fmt.Sprintf("%.0f", load.P95), fmt.Sprintf("%.0f", load.Longest))
		}
	}
	if len(r.Stations) > 0 {
		table.head("Stations on the same networks, parts a second", "1", "2", "4", "8")
		for i := 0; i+4 <= len(r.Stations); i += 4 {
			table.row(r.Stations[i].Plan, each(r.Stations[i:i+4], func(s Shared) string { return fmt.Sprintf("%.2f", s.Rate) })...)
		}
	}

	if r.GPU != nil {
		table.head("On the GPU, ms", "engines alone", "copies alone", "CUDA graph", "one by one", "whole call",
			fmt.Sprintf("by events, at most %.2f", r.GPU.Bars.Events), fmt.Sprintf("end to end, at most %.2f", r.GPU.Bars.EndToEnd))
		for _, call := range r.GPU.Calls {
			graph := "none"
			if call.Graph > 0 {
				graph = fmt.Sprintf("%.3f", call.Graph)
			}
			table.row(call.Call, fmt.Sprintf("%.3f", call.Bare), fmt.Sprintf("%.3f", call.Copies), graph, fmt.Sprintf("%.3f", call.Plain), fmt.Sprintf("%.3f", call.Whole),
				within(call.Events, r.GPU.Bars.Events), within(call.EndToEnd, r.GPU.Bars.EndToEnd))
		}
		table.row("memory in use, GB", fmt.Sprintf("%.2f of %.2f", float64(r.GPU.Bytes-r.GPU.FreeBytes)/1e9, float64(r.GPU.Bytes)/1e9))
	}

	table.head("GLAD's official networks at 512 px, computed: guided UNet steps for a good part", r.plans()...)
	table.row("steps", each(r.FullSize, func(u Units) string { return fmt.Sprintf("%.1f", u.Units) })...)
	table.row("share", each(r.FullSize, func(u Units) string { return fmt.Sprintf("%.2f", u.Share) })...)
	return table.Flush()
}

func (r *Report) plans() []string { return each(r.Plans, func(c Costs) string { return c.Plan }) }

type tables struct{ *tabwriter.Writer }

func (t tables) head(title string, columns ...string) {
	t.Flush() //nolint:errcheck // the last one tells
	fmt.Fprintln(t)
	t.row(title, columns...)
}

func (t tables) row(name string, cells ...string) {
	fmt.Fprintln(t, strings.Join(append([]string{name}, cells...), "\t")+"\t")
}

func each[T any](values []T, text func(T) string) []string {
	var texts []string
	for _, value := range values {
		texts = append(texts, text(value))
	}
	return texts
}

// within is a share of what is done alone, and whether it is within its bar.
func within(share, bar float64) string {
	if share <= bar {
		return fmt.Sprintf("%.3f pass", share)
	}
	return fmt.Sprintf("%.3f miss", share)
}

func percent(share float64) string { return fmt.Sprintf("%.4g %%", 100*share) }

func optional(value *float64, text func(float64) string) string {
	if value == nil {
		return "no threshold"
	}
	return text(*value)
}
