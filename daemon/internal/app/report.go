package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"gladd/daemon/internal/overlay"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/verdict"
)

// report tells people of verdicts: a log line each, and on request a readable
// line, an overlay and a summary.
type report struct {
	out      io.Writer // nil: nobody reads
	traceDir string    // empty: no overlays
	log      *slog.Logger

	mutex  sync.Mutex
	counts map[group]map[verdict.Evaluation]int
}

// group is what is counted together.
type group struct {
	kind    string          // verdict.KindView or verdict.KindPart
	purpose verdict.Purpose // production for reinspection, too
}

func groupOf(record *verdict.Record) group {
	return group{record.Kind, record.Purpose.Group()[0]}
}

// words name a group beside the production views.
func (g group) words() string {
	words := "verdicts"
	if g.kind == verdict.KindPart {
		words += " on parts of several views"
	}
	if !g.purpose.IsProduction() {
		words += ", purpose " + string(g.purpose)
	}
	return words
}

func newReport(options RunOptions) *report {
	return &report{out: options.Print, traceDir: options.TraceDir, log: options.Log, counts: map[group]map[verdict.Evaluation]int{}}
}

// verdict tells of one.
func (r *report) verdict(name string, finished station.Finished) {
	record := finished.Record
	attributes := []any{
		"station", name, "evaluation", record.Evaluation, "sequence", record.Sequence, "result_id", record.ResultID,
		"latency_ms", record.LatencyMS,
	}
	if record.AnomalyScore != nil {
		attributes = append(attributes, "score", *record.AnomalyScore)
	}
	if record.Part.ID != nil {
		attributes = append(attributes, "part_id", *record.Part.ID)
	}
	if record.Kind == verdict.KindPart {
		attributes = append(attributes, "kind", record.Kind)
	}
	if !record.Purpose.IsProduction() {
		attributes = append(attributes, "purpose", record.Purpose)
	}
	if record.Reason != nil {
		attributes = append(attributes, "reason", record.Reason.Code, "detail", record.Reason.Detail)
	}
	level := slog.LevelInfo
	if record.ResultState == verdict.Failed {
		level = slog.LevelWarn
	}
	r.log.Log(context.Background(), level, "verdict", attributes...)

	r.mutex.Lock()
	defer r.mutex.Unlock()
	of := groupOf(record)
	if r.counts[of] == nil {
		r.counts[of] = map[verdict.Evaluation]int{}
	}
	r.counts[of][record.Evaluation]++
	if r.out != nil {
		r.print(name, finished)
	}
	if r.traceDir != "" && finished.Outcome.Scored {
		if err := r.writeOverlay(name, finished); err != nil {
			r.log.Error("overlay", "error", err)
		}
	}
}

// print writes the readable line.
func (r *report) print(name string, finished station.Finished) {
	record := finished.Record
	var line strings.Builder
	fmt.Fprintf(&line, "%s  %-10s %-12s", record.Times.Finished.Local().Format("15:04:05"), name, record.Evaluation)
	switch {
	case record.Kind == verdict.KindPart:
		fmt.Fprintf(&line, "  %d of %d views", len(record.SourceResultIDs), *record.ViewsExpected)
	case record.AnomalyScore != nil && record.ImageThreshold != nil:
		fmt.Fprintf(&line, "  score %.4f, threshold %.4f", *record.AnomalyScore, *record.ImageThreshold)
	case record.AnomalyScore != nil:
		fmt.Fprintf(&line, "  score %.4f, no threshold", *record.AnomalyScore)
	default:
		fmt.Fprintf(&line, "  no score")
	}
	fmt.Fprintf(&line, "  %6.0f ms", record.LatencyMS)
	if finished.Name != "" {
		fmt.Fprintf(&line, "  %q", filepath.Base(finished.Name))
	}
	if record.Reason != nil && record.Reason.Code != verdict.ReasonAnomaly {
		fmt.Fprintf(&line, "  (%s)", record.Reason.Code)
	}
	if !record.Purpose.IsProduction() {
		fmt.Fprintf(&line, "  [%s]", record.Purpose)
	}
	fmt.Fprintln(r.out, line.String())
}

// writeOverlay draws the part below the trace folder.
func (r *report) writeOverlay(name string, finished station.Finished) error {
	record, outcome := finished.Record, finished.Outcome
	title := record.TriggerID
	if finished.Name != "" {
		base := filepath.Base(finished.Name)
		title = strings.TrimSuffix(base, filepath.Ext(base))
	}
	var picture bytes.Buffer
	if err := overlay.Write(&picture, overlay.Content{
		Title:          title,
		Evaluation:     record.Evaluation,
		Reason:         record.Reason,
		Score:          outcome.Result.Score,
		ImageThreshold: record.ImageThreshold,
		Width:          outcome.PreparedWidth,
		Height:         len(outcome.Prepared) / 3 / max(1, outcome.PreparedWidth),
		Picture:        outcome.Prepared,
		Reconstruction: outcome.Result.Reconstruction,
		AnomalyMap:     outcome.Result.AnomalyMap,
		MapSize:        outcome.MapSize,
	}); err != nil {
		return err
	}
	path := filepath.Join(r.traceDir, name, fmt.Sprintf("%06d-%s.overlay.png", record.Sequence, title))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(path, picture.Bytes(), 0o644)
}

// summary writes the last lines: production, and what is beside it.
func (r *report) summary() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	production := group{verdict.KindView, verdict.Production}
	counts, total := r.counts[production], r.total(production)
	attributes := []any{"verdicts", total, "ok", counts[verdict.OK], "not_ok", counts[verdict.NotOK],
		"not_decidable", counts[verdict.NotDecidable], "undefined", counts[verdict.Undefined]}
	lines := "\n" + lineOf(total, "verdicts", counts)
	for _, kind := range []string{verdict.KindView, verdict.KindPart} {
		for _, purpose := range verdict.Purposes {
			of := group{kind, purpose}
			if of == production || r.counts[of] == nil {
				continue
			}
			attributes = append(attributes, kind+"s_"+string(purpose), r.total(of))
			lines += lineOf(r.total(of), of.words(), r.counts[of])
		}
	}
	r.log.Info("ended", attributes...)
	if r.out != nil {
		fmt.Fprintf(r.out, "%s", lines)
	}
}

func (r *report) total(of group) (total int) {
	for _, count := range r.counts[of] {
		total += count
	}
	return total
}

func lineOf(total int, words string, counts map[verdict.Evaluation]int) string {
	return fmt.Sprintf("%d %s: %d OK, %d NotOK, %d NotDecidable, %d Undefined\n", total, words,
		counts[verdict.OK], counts[verdict.NotOK], counts[verdict.NotDecidable], counts[verdict.Undefined])
}
