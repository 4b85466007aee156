package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gladd/daemon/internal/verdict"
)

// picturePage is how many rows are read at a time. No state of the ledger is
// held while pictures are decoded, which takes hours where there are many.
const picturePage = 100

// storedPicture is a row of the pictures, and its result.
type storedPicture struct {
	triggerID, path string
	bytes           int64
	resultID        sql.NullString
	source          sql.NullString
	sequence        sql.NullInt64
	record          []byte
}

// pictures verifies the pictures that rows name, and looks for files that none
// names.
func (v *verification) pictures(ctx context.Context) error {
	ledger := v.reader.newest()
	var total int
	if err := ledger.row(ctx, `SELECT count(*) FROM images`).Scan(&total); err != nil {
		return err
	}
	v.Begin("pictures", total)
	for last := ""; ; {
		var page []storedPicture
		if err := ledger.each(ctx, func(rows *sql.Rows) error {
			var picture storedPicture
			err := rows.Scan(&picture.triggerID, &picture.path, &picture.bytes, &picture.resultID, &picture.source, &picture.sequence, &picture.record)
			page = append(page, picture)
			return err
		}, `SELECT images.trigger_id, images.path, images.bytes, results.result_id, results.source, results.sequence, CAST(results.record AS BLOB)
			FROM images LEFT JOIN results USING (trigger_id) WHERE images.trigger_id > ? ORDER BY images.trigger_id LIMIT ?`, last, picturePage); err != nil {
			return err
		}
		for i := range page {
			if err := v.picture(ctx, ledger, &page[i]); err != nil {
				return err
			}
			v.Step()
		}
		if len(page) < picturePage {
			break
		}
		last = page[len(page)-1].triggerID
	}
	return v.files(ctx, ledger)
}

// picture verifies one. What seems wrong may have been removed meanwhile, with
// its row.
func (v *verification) picture(ctx context.Context, ledger tables, picture *storedPicture) error {
	v.found.Pictures++
	wrong := v.wrongWith(picture)
	if wrong == "" {
		return ctx.Err()
	}
	var there bool
	if err := ledger.row(ctx, `SELECT EXISTS (SELECT 1 FROM images WHERE trigger_id = ? AND path = ?)`, picture.triggerID, picture.path).Scan(&there); err != nil || !there {
		return err
	}
	of := "trigger " + picture.triggerID
	if picture.resultID.Valid {
		of = named(picture.resultID.String, picture.source.String, picture.sequence.Int64)
	}
	v.problem("picture %s of %s: %s", picture.path, of, wrong)
	return nil
}

func (v *verification) wrongWith(picture *storedPicture) string {
	if !filepath.IsLocal(picture.path) {
		return "its path leads out of the folder of pictures"
	}
	path := filepath.Join(v.ImagesDir, picture.path)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "the file is gone"
	}
	if err != nil {
		return err.Error()
	}
	if !picture.resultID.Valid {
		return "it has no result"
	}
	var record struct {
		Image *verdict.Image `json:"image"`
	}
	if err := json.Unmarshal(picture.record, &record); err != nil {
		return "" // told with the records
	}
	if record.Image == nil {
		return "the record has no picture"
	}
	found, err := v.ReadPicture(path)
	switch {
	case err != nil:
		return fmt.Sprintf("it cannot be read: %v", err)
	case found != record.Image.SHA256:
		return fmt.Sprintf("it is not the one that was inspected: expected SHA-256 %s of the decoded pixels, found %s", record.Image.SHA256, found)
	case info.Size() != picture.bytes:
		return fmt.Sprintf("expected a file of %d bytes, found %d", picture.bytes, info.Size())
	}
	return ""
}

// files tells of files that no row names. A trigger that is under way has its
// picture before its record.
func (v *verification) files(ctx context.Context, ledger tables) error {
	return filepath.WalkDir(v.ImagesDir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // no pictures at all, or a day's folder that went meanwhile
		}
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(v.ImagesDir, path)
		if err != nil {
			return err
		}
		// What is being written has the name with something before and after it.
		triggerID, _, _ := strings.Cut(strings.TrimPrefix(entry.Name(), "."), ".png")
		var known bool
		if err := ledger.row(ctx, `SELECT EXISTS (SELECT 1 FROM images WHERE path = ?1 AND trigger_id = ?2)
			OR EXISTS (SELECT 1 FROM triggers WHERE trigger_id = ?2 AND finished = 0)`, relative, triggerID).Scan(&known); err != nil || known {
			return err
		}
		if _, err := os.Lstat(path); err != nil {
			return nil //nolint:nilerr // it was removed meanwhile
		}
		v.Note(fmt.Sprintf("no record names the file %s", path))
		return nil
	})
}
