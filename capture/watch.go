package capture

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Arrival is a picture file that came into a watched folder.
type Arrival struct {
	File
	// ID names this file in this form: the same again after a restart,
	// another one for a file of the same name that was written later.
	ID string
}

// Watch calls a function with every picture below a folder, in the order of
// their paths: those that are there, then those that come. A file is taken
// once it did not change between two looks, so that none is read half
// written. The function says whether the file was taken; if not, it is offered
// again at the next look. Looking, at an interval, also works on network
// shares, which report no changes. Problem is called when the folder cannot be
// read, with nil when it can again.
func Watch(ctx context.Context, dir string, every time.Duration, take func(Arrival) bool, problem func(error)) {
	seen := map[string]string{}  // the form of each file at the last look
	taken := map[string]string{} // the form in which it was taken
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		files, err := findBelow(dir, "")
		problem(err)
		if err == nil {
			now := make(map[string]string, len(files))
			refused := false
			for _, file := range files {
				form := formOf(file.Path)
				now[file.Rel] = form
				if refused || form == "" || form != seen[file.Rel] || form == taken[file.Rel] {
					continue
				}
				if ctx.Err() != nil {
					return
				}
				if !take(Arrival{File: file, ID: file.Rel + "@" + form}) {
					refused = true // and with it those behind it
					continue
				}
				taken[file.Rel] = form
			}
			seen = now
			for rel := range taken {
				if _, there := now[rel]; !there {
					delete(taken, rel)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// formOf tells a file from what it was before; empty: it is gone.
func formOf(path string) string {
	info, err := os.Stat(filepath.Clean(path))
	if err != nil {
		return ""
	}
	return strconv.FormatInt(info.ModTime().UnixNano(), 36) + "-" + strconv.FormatInt(info.Size(), 36)
}
