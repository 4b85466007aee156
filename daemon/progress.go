package main

import (
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"gladd/engines/tensorrt"
)

// progress is a bar on stderr if that is a terminal, and nothing elsewhere.
type progress struct {
	stderr io.Writer
	bar    *progressbar.ProgressBar // nil while none is shown
}

// begin shows the bar.
func (p *progress) begin(doing string, total int) {
	if !isTerminal(p.stderr) {
		return
	}
	p.bar = progressbar.NewOptions(total,
		progressbar.OptionSetWriter(p.stderr),
		progressbar.OptionSetDescription(doing),
		progressbar.OptionSetWidth(30),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish(),
	)
}

// step says that one more is done.
func (p *progress) step() {
	if p.bar != nil {
		p.bar.Add(1) //nolint:errcheck // a bar that cannot be drawn harms nobody
	}
}

// engines returns what shows how far TensorRT is with building engines.
func (p *progress) engines() func(tensorrt.Progress) {
	const steps = 100 // of one engine
	return func(built tensorrt.Progress) {
		if p.bar == nil {
			p.begin("building engines", built.Count*steps)
		}
		if p.bar == nil {
			return // no terminal
		}
		p.bar.Describe("building " + string(built.Network))
		p.bar.Set(built.Done*steps + int(built.Share*steps)) //nolint:errcheck // as above
		if built.Done == built.Count {
			p.end()
		}
	}
}

// end takes the bar away.
func (p *progress) end() {
	p.clear()
	p.bar = nil
}

func (p *progress) clear() {
	if p.bar != nil {
		p.bar.Clear() //nolint:errcheck // as above
	}
}

// around returns a writer that takes the bar away before it writes to a
// terminal, so that lines and bar do not run into each other. The bar comes
// back when it is shown next.
func (p *progress) around(w io.Writer) io.Writer {
	if !isTerminal(w) {
		return w
	}
	return clearing{progress: p, Writer: w}
}

type clearing struct {
	progress *progress
	io.Writer
}

func (c clearing) Write(text []byte) (int, error) {
	c.progress.clear()
	return c.Writer.Write(text)
}

func isTerminal(w io.Writer) bool {
	file, isFile := w.(*os.File)
	return isFile && term.IsTerminal(int(file.Fd()))
}
