package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"gladd/daemon/internal/verdict"
)

// Images is the folder of pictures beside a ledger.
type Images struct {
	ledger   *Ledger
	dir      string
	maxBytes int64
}

// StoredImage is a picture in the folder that no record names yet.
type StoredImage struct {
	path  string // below the folder
	bytes int64
}

// NewImages uses a folder for a ledger's pictures; the oldest go where there
// would be more than maxBytes.
func NewImages(ledger *Ledger, dir string, maxBytes int64) *Images {
	return &Images{ledger: ledger, dir: dir, maxBytes: maxBytes}
}

// Store writes a trigger's picture, a PNG file, durably.
func (i *Images) Store(station, triggerID string, at time.Time, content []byte) (*StoredImage, error) {
	stored := &StoredImage{path: pathOf(station, triggerID, at), bytes: int64(len(content))}
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

// Prune removes pictures beyond the limit, those of OK parts first, the oldest
// first.
func (i *Images) Prune(ctx context.Context) error {
	for ctx.Err() == nil {
		var total int64
		if err := i.ledger.reads.QueryRowContext(ctx, `SELECT coalesce(sum(bytes), 0) FROM images`).Scan(&total); err != nil {
			return fmt.Errorf("ledger: pictures: %w", err)
		}
		if total <= i.maxBytes {
			return nil
		}
		// The shortest run of pictures that frees enough.
		removed, err := i.removeWhere(ctx, `SELECT trigger_id, path FROM (
			SELECT trigger_id, path, ok, stored, sum(bytes) OVER (ORDER BY ok DESC, stored, trigger_id) - bytes AS before FROM images)
			WHERE before < ? ORDER BY ok DESC, stored, trigger_id LIMIT ?`, total-i.maxBytes, pruneStep)
		if err != nil || removed == 0 {
			return err
		}
	}
	return ctx.Err()
}

// removeWhere removes the pictures that a query finds.
func (i *Images) removeWhere(ctx context.Context, query string, arguments ...any) (removed int, err error) {
	rows, err := i.ledger.reads.QueryContext(ctx, query, arguments...)
	if err != nil {
		return 0, fmt.Errorf("ledger: pictures: %w", err)
	}
	paths := map[string]string{}
	for rows.Next() {
		var triggerID, path string
		if err := rows.Scan(&triggerID, &path); err != nil {
			return 0, errors.Join(fmt.Errorf("ledger: pictures: %w", err), rows.Close())
		}
		paths[triggerID] = path
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return 0, fmt.Errorf("ledger: pictures: %w", err)
	}
	// The files first: a row without its file is found again, a file without
	// its row is not.
	for _, path := range paths {
		if err := i.remove(path); err != nil {
			return 0, err
		}
	}
	return len(paths), i.ledger.commit(func(tx transaction) error {
		for triggerID := range paths {
			if err := tx.exec(`DELETE FROM images WHERE trigger_id = ?`, triggerID); err != nil {
				return err
			}
		}
		return nil
	})
}

// PruneRecords removes what was finished before a time, in small steps:
// records that the MES has, their triggers, replies to commands, and pictures.
func (i *Images) PruneRecords(ctx context.Context, before time.Time) error {
	limit := before.UnixMilli()
	for {
		removed, err := i.removeWhere(ctx, `SELECT trigger_id, path FROM images WHERE stored < ? LIMIT ?`, limit, pruneStep)
		if err != nil {
			return err
		}
		if removed == 0 {
			break
		}
	}
	for ctx.Err() == nil {
		var removed int64
		err := i.ledger.commit(func(tx transaction) error {
			removed = 0
			for _, statement := range []string{
				`DELETE FROM reviews WHERE result_id IN (SELECT result_id FROM results WHERE finished < ?1
					AND result_id NOT IN (SELECT result_id FROM outbox) ORDER BY finished LIMIT ?2)`,
				`DELETE FROM results WHERE result_id IN (SELECT result_id FROM results WHERE finished < ?1
					AND result_id NOT IN (SELECT result_id FROM outbox) ORDER BY finished LIMIT ?2)`,
				`DELETE FROM triggers WHERE trigger_id IN (SELECT trigger_id FROM triggers WHERE accepted < ?1 AND finished = 1
					AND trigger_id NOT IN (SELECT trigger_id FROM results) ORDER BY accepted LIMIT ?2)`,
				`DELETE FROM commands WHERE (source, command_id) IN (SELECT source, command_id FROM commands WHERE replied < ?1 ORDER BY replied LIMIT ?2)`,
			} {
				if err := tx.exec(statement, limit, pruneStep); err != nil {
					return err
				}
				var changes int64
				if err := tx.row(`SELECT changes()`).Scan(&changes); err != nil {
					return err
				}
				removed += changes
			}
			return nil
		})
		if err != nil || removed == 0 {
			return err
		}
	}
	return ctx.Err()
}
