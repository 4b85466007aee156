package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"gladd/daemon/internal/verdict"
)

// Images is the folder of pictures beside a ledger.
type Images struct {
	ledger   *Ledger
	dir      string
	maxBytes int64
	minFree  int64
	wanting  chan struct{}

	pruning sync.Mutex
	gone    map[string]int64 // bytes of pictures whose rows are still there, by trigger id; under pruning
}

// StoredImage is a picture in the folder that no record names yet.
type StoredImage struct {
	path  string // below the folder
	bytes int64
}

// NewImages uses a folder for a ledger's pictures; the oldest go where there
// would be more than maxBytes.
func NewImages(ledger *Ledger, dir string, maxBytes int64) *Images {
	return &Images{ledger: ledger, dir: dir, maxBytes: maxBytes, wanting: make(chan struct{}, 1)}
}

// Store writes a trigger's picture, a PNG file, durably, unless that leaves too
// little space: then the error is a [LowSpaceError].
func (i *Images) Store(station, triggerID string, at time.Time, content []byte) (*StoredImage, error) {
	stored := &StoredImage{path: pathOf(station, triggerID, at), bytes: int64(len(content))}
	if err := i.room(stored.bytes); err != nil {
		select {
		case i.wanting <- struct{}{}:
		default:
		}
		return nil, fmt.Errorf("store picture: %w", err)
	}
	path := filepath.Join(i.dir, stored.path)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("store picture: %w", err)
	}
	if err := renameio.WriteFile(path, content, 0o640); err != nil {
		return nil, fmt.Errorf("store picture: %w", err)
	}
	return stored, nil
}

// pathOf is a picture's path below the folder.
func pathOf(station, triggerID string, at time.Time) string {
	return filepath.Join(station, at.UTC().Format(time.DateOnly), triggerID+".png")
}

// recover looks for the picture of a trigger that an earlier run did not end,
// and removes what is left of one that was not whole.
func (i *Images) recover(source string, record *verdict.Record) (*StoredImage, *verdict.Image, error) {
	relative := pathOf(source[strings.LastIndexByte(source, '/')+1:], record.TriggerID, record.Times.Triggered.Time)
	path := filepath.Join(i.dir, relative)
	// What was being written has the name with something before and after it.
	parts, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"+record.TriggerID+"*"))
	if err != nil {
		return nil, nil, fmt.Errorf("pictures of an earlier run: %w", err)
	}
	for _, part := range parts {
		if err := os.Remove(part); err != nil {
			return nil, nil, fmt.Errorf("pictures of an earlier run: %w", err)
		}
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("pictures of an earlier run: %w", err)
	}
	picture, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		return nil, nil, i.remove(relative)
	}
	bounds := picture.Bounds()
	digest := sha256.New()
	row := make([]byte, 0, 3*bounds.Dx())
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		row = row[:0]
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			r, g, b, _ := picture.At(x, y).RGBA()
			row = append(row, byte(r>>8), byte(g>>8), byte(b>>8))
		}
		digest.Write(row)
	}
	return &StoredImage{path: relative, bytes: int64(len(content))}, &verdict.Image{
		SHA256: hex.EncodeToString(digest.Sum(nil)), Width: bounds.Dx(), Height: bounds.Dy(), Kept: true,
	}, nil
}

// Discard removes a picture that no record will name.
func (i *Images) Discard(stored *StoredImage) error { return i.remove(stored.path) }

func (i *Images) remove(path string) error {
	path = filepath.Join(i.dir, path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove picture: %w", err)
	}
	// The day's folder goes with its last picture; until then this fails.
	os.Remove(filepath.Dir(path)) //nolint:errcheck // see above
	return nil
}

func insertImage(tx transaction, record *verdict.Record, image *StoredImage) error {
	if image == nil {
		return nil
	}
	return tx.exec(`INSERT INTO images (trigger_id, path, bytes, ok, stored) VALUES (?, ?, ?, ?, ?)`,
		record.TriggerID, image.path, image.bytes, record.Evaluation == verdict.OK, record.Times.Finished.UnixMilli())
}

// pruneStep is how much is removed at a time, so that triggers need not wait.
const pruneStep = 100

// picture is one that is stored.
type picture struct {
	triggerID, path string
	bytes           int64
}

// find finds pictures, but for those that are gone.
func (i *Images) find(ctx context.Context, query string, arguments ...any) (pictures []picture, err error) {
	err = each(ctx, i.ledger.reads, func(rows *sql.Rows) error {
		var found picture
		err := rows.Scan(&found.triggerID, &found.path, &found.bytes)
		if _, gone := i.gone[found.triggerID]; !gone {
			pictures = append(pictures, found)
		}
		return err
	}, query, arguments...)
	if err != nil {
		return nil, fmt.Errorf("ledger: pictures: %w", err)
	}
	return pictures, nil
}

// removePicture removes a picture's file; forget removes the row. The file first:
// a row without its file is found again, a file without its row is not.
func (i *Images) removePicture(found picture) error {
	if err := i.remove(found.path); err != nil {
		return err
	}
	if i.gone == nil {
		i.gone = map[string]int64{}
	}
	i.gone[found.triggerID] = found.bytes
	return nil
}

// forget removes the rows of pictures that are gone.
func (i *Images) forget() error {
	for len(i.gone) > 0 {
		var some []string
		for triggerID := range i.gone {
			if some = append(some, triggerID); len(some) == pruneStep {
				break
			}
		}
		err := i.ledger.commit(func(tx transaction) error { return tx.deleteAll(`DELETE FROM images WHERE trigger_id IN`, some) })
		if err != nil {
			return err
		}
		for _, triggerID := range some {
			delete(i.gone, triggerID)
		}
	}
	return nil
}
