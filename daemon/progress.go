package main

import (
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"gladd/daemon/internal/batch"
)

// progress is a bar on a terminal, and nothing elsewhere.
type progress struct {
	terminal io.Writer
	bar      *progressbar.ProgressBar
}

func newProgress(stderr io.Writer) *progress {
	if file, isFile := stderr.(*os.File); isFile && term.IsTerminal(int(file.Fd())) {
		return &progress{terminal: stderr}
	}
	return &progress{}
}

func (p *progress) begin(total int) {
	if p.terminal == nil {
		return
	}
	p.bar = progressbar.NewOptions(total,
		progressbar.OptionSetWriter(p.terminal),
		progressbar.OptionSetDescription("inspecting"),
		progressbar.OptionSetWidth(30),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish(),
	)
}

func (p *progress) show(summary batch.Summary) {
	if p.bar != nil {
		p.bar.Set(summary.Pictures) //nolint:errcheck // a bar that cannot be drawn harms nobody
	}
}

func (p *progress) end() {
	if p.bar != nil {
		p.bar.Finish() //nolint:errcheck // as above
	}
}
