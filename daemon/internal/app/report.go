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
	counts map[verdict.Evaluation]int
}

func newReport(options RunOptions) *report {
	return &report{out: options.Print, traceDir: options.TraceDir, log: options.Log, counts: map[verdict.Evaluation]int{}}
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
	r.counts[record.Evaluation]++
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

// summary writes the last line.
func (r *report) summary() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	total := 0
	for _, count := range r.counts {
		total += count
	}
	r.log.Info("ended", "verdicts", total, "ok", r.counts[verdict.OK], "not_ok", r.counts[verdict.NotOK],
		"not_decidable", r.counts[verdict.NotDecidable], "undefined", r.counts[verdict.Undefined])
	if r.out != nil {
		fmt.Fprintf(r.out, "\n%d verdicts: %d OK, %d NotOK, %d NotDecidable, %d Undefined\n", total,
			r.counts[verdict.OK], r.counts[verdict.NotOK], r.counts[verdict.NotDecidable], r.counts[verdict.Undefined])
	}
}
