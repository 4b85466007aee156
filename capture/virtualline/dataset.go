package virtualline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"
)

// PartsFile is the list of a data set's parts: a JSON object a line.
const PartsFile = "parts.jsonl"

// Counts are the numbers of parts in a data set.
type Counts struct{ Train, Good, Defective int }

// Entry is a part in a data set.
type Entry struct {
	Image    string  `json:"image"` // below the data set's folder
	Mask     *string `json:"mask"`  // null for a good part
	Part     Kind    `json:"part"`
	Defect   *string `json:"defect"`   // null for a good part
	Severity *string `json:"severity"` // null for a good part
	Area     *int    `json:"area"`     // of the mask, in pixels; null for a good part
	Seed     uint64  `json:"seed"`
	Set      string  `json:"set"`
	Number   int     `json:"number"`
	Size     int     `json:"size"`
}

// WriteDataset writes parts in the layout of MVTec AD below a folder, which
// must be new or empty: train/good, test/good, and for each kind of defect
// test/<defect> with masks in ground_truth/<defect>. The defective parts take
// turns through kinds and severities. More parts with the same seed begin with
// the same parts. Done is called after each part.
func (l *Line) WriteDataset(ctx context.Context, dir string, counts Counts, done func()) error {
	if err := checkEmpty(dir); err != nil {
		return err
	}
	entries := l.entries(counts)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	var telling sync.Mutex
	for i := range entries {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := l.writePart(dir, &entries[i]); err != nil {
				return err
			}
			telling.Lock()
			defer telling.Unlock()
			done()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var list bytes.Buffer
	encoder := json.NewEncoder(&list)
	for _, entry := range entries {
		if err := encoder.Encode(entry); err != nil {
			return err
		}
	}
	// Last: a folder that has it is whole.
	return renameio.WriteFile(filepath.Join(dir, PartsFile), list.Bytes(), 0o644)
}

// FolderError says that parts cannot be written into a folder, before anything
// was.
type FolderError struct{ error }

// Unwrap returns the cause.
func (e FolderError) Unwrap() error { return e.error }

func checkEmpty(dir string) error {
	found, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return FolderError{fmt.Errorf("folder of the parts: %w", err)}
	case len(found) > 0:
		return FolderError{fmt.Errorf("folder of the parts: expected a new or an empty one, found %s in %s; name another, or remove it first", found[0].Name(), dir)}
	}
	return nil
}

// entries lists a data set's parts.
func (l *Line) entries(counts Counts) []Entry {
	entry := func(set string, number int) Entry {
		return Entry{Image: path.Join(set, fmt.Sprintf("%04d.png", number)), Part: l.kind, Seed: l.seed, Set: set, Number: number, Size: l.size}
	}
	var entries []Entry
	for i := range counts.Train {
		entries = append(entries, entry("train/good", i))
	}
	for i := range counts.Good {
		entries = append(entries, entry("test/good", i))
	}
	defects := l.kind.Defects()
	for i := range counts.Defective {
		defect, number := string(defects[i%len(defects)]), i/len(defects)
		severity := string(Severities[number%len(Severities)])
		next := entry("test/"+defect, number)
		name := fmt.Sprintf("%04d_%s", number, severity)
		mask := path.Join("ground_truth", defect, name+"_mask.png")
		next.Image = path.Join(next.Set, name+".png")
		next.Mask, next.Defect, next.Severity = &mask, &defect, &severity
		entries = append(entries, next)
	}
	return entries
}

// writePart writes a part's picture and mask.
func (l *Line) writePart(dir string, entry *Entry) error {
	if entry.Defect == nil {
		return writePNG(filepath.Join(dir, entry.Image), l.Good(entry.Set, entry.Number).Image())
	}
	part := l.Defective(entry.Set, entry.Number, Defect(*entry.Defect), Severity(*entry.Severity))
	area := 0
	for _, value := range part.Mask {
		area += int(value / 255)
	}
	entry.Area = &area
	return errors.Join(
		writePNG(filepath.Join(dir, entry.Image), part.Image()),
		writePNG(filepath.Join(dir, *entry.Mask), part.MaskImage()),
	)
}

func writePNG(path string, picture image.Image) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write part: %w", err)
	}
	var content bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := encoder.Encode(&content, picture); err != nil {
		return fmt.Errorf("write part: %w", err)
	}
	if err := os.WriteFile(path, content.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write part: %w", err)
	}
	return nil
}
