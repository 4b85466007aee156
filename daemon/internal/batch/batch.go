// Package batch inspects picture files: one JSON line each, and on request
// everything that was computed on the way.
package batch

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
)

// Options of a batch.
type Options struct {
	// Pictures are files and folders.
	Pictures []string
	// Class names the parts' class, for bundles of several.
	Class string
	// TraceDir takes the trace files; empty: none are written.
	TraceDir string
	// NoiseDir and EncodeNoiseDir hold <stem>.npy files that replace the
	// generated noise; empty: it is generated.
	NoiseDir, EncodeNoiseDir string

	Out io.Writer // a line per picture
	// Text makes lines for people of what is JSON otherwise.
	Text bool
	Done func(Summary) // called after each picture
	Log  *slog.Logger
}

// Summary counts what happened so far.
type Summary struct {
	Pictures     int
	Unscored     int // pictures without a finite score
	ByEvaluation map[verdict.Evaluation]int
}

// Batch is a checked list of pictures.
type Batch struct {
	options Options
	items   []item
	class   int
}

// item is one picture and the files that belong to it.
type item struct {
	capture.File
	trace              string // path of the trace files without their endings
	noise, encodeNoise string // paths, empty for generated noise
}

// New finds the pictures and checks all that can be checked before the first
// inspection, so that wrong usage leaves nothing half done.
func New(options Options) (*Batch, error) {
	files, err := capture.FindFiles(options.Pictures, options.TraceDir)
	if err != nil {
		return nil, err
	}
	batch := &Batch{options: options}
	for _, file := range files {
		batch.items = append(batch.items, item{File: file})
	}
	if options.TraceDir != "" {
		if err := batch.placeTraces(options.TraceDir); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// Len is the number of pictures.
func (b *Batch) Len() int { return len(b.items) }

// UsageError is an error of [Batch.Run] before the first inspection, which the
// user can mend.
type UsageError struct{ error }

// Unwrap returns the cause.
func (e UsageError) Unwrap() error { return e.error }

// Run inspects the pictures in order. An error means that the batch was ended
// before all were done; a picture that cannot be inspected is no error.
func (b *Batch) Run(ctx context.Context, model *inspection.Model) (Summary, error) {
	summary := Summary{ByEvaluation: map[verdict.Evaluation]int{}}
	// Not before: a bundle that is refused leaves no folder behind.
	if b.options.TraceDir != "" {
		if err := makeTraceDir(b.options.TraceDir); err != nil {
			return summary, UsageError{err}
		}
	}
	for i := range b.items {
		if err := ctx.Err(); err != nil {
			return summary, fmt.Errorf("stopped after %d of %d pictures: %w", i, len(b.items), err)
		}
		outcome, record := b.inspect(ctx, model, &b.items[i])
		if err := b.write(model, &b.items[i], outcome, record); err != nil {
			return summary, err
		}
		summary.Pictures++
		summary.ByEvaluation[outcome.Evaluation]++
		if !outcome.Scored {
			summary.Unscored++
		}
		if b.options.Done != nil {
			b.options.Done(summary)
		}
	}
	return summary, nil
}

// inspect inspects one picture.
func (b *Batch) inspect(ctx context.Context, model *inspection.Model, item *item) (inspection.Outcome, Record) {
	began := time.Now()
	picture, err := capture.ReadPicture(item.Path, 0)
	read := time.Since(began)
	var outcome inspection.Outcome
	if err != nil {
		b.options.Log.Error("picture cannot be read", "error", err)
		outcome = inspection.Undefined(verdict.ReasonCamera, err.Error())
		return outcome, newRecord(item, nil, model, b.options.Class, model.Calibrations[b.class], outcome, read)
	}
	part := inspection.Part{Picture: picture, Class: b.class}
	if part.Noise, part.EncodeNoise, err = item.readNoise(model.Parameters.Latent); err != nil {
		outcome = inspection.Undefined(verdict.ReasonInternal, err.Error())
	} else {
		outcome = model.Inspector.Inspect(ctx, part)
	}
	if !outcome.Scored {
		b.options.Log.Error("inspection failed", "picture", item.Path, "reason", outcome.Reason.Code, "error", outcome.Reason.Detail)
	}
	return outcome, newRecord(item, picture, model, b.options.Class, model.Calibrations[b.class], outcome, read)
}

func (b *Batch) write(model *inspection.Model, item *item, outcome inspection.Outcome, record Record) error {
	line, err := record.line()
	if err != nil {
		return fmt.Errorf("result of %s: %w", item.Path, err)
	}
	if item.trace != "" {
		if err := item.writeTrace(model.Parameters, outcome, record, line); err != nil {
			return fmt.Errorf("trace of %s: %w", item.Path, err)
		}
	}
	if b.options.Text {
		line = record.text()
	}
	if _, err := b.options.Out.Write(line); err != nil {
		return fmt.Errorf("writing the result of %s: %w", item.Path, err)
	}
	return nil
}
