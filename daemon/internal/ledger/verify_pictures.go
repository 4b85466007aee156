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
	"time"

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
	var suspects []suspect
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
		before := suspects
		suspects = nil
		for i := range page {
			v.found.Pictures++
			if wrong := v.wrongWith(&page[i]); wrong != "" {
				suspects = append(suspects, suspect{&page[i], wrong})
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			v.Step()
		}
		if err := v.accuse(ctx, ledger, before); err != nil {
			return err
		}
		if len(page) < picturePage {
			break
		}
		last = page[len(page)-1].triggerID
	}
	if err := v.files(ctx, ledger); err != nil {
		return err
	}
	if v.found.InUse && len(suspects) > 0 {
		select {
		case <-time.After(removalTime):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return v.accuse(ctx, ledger, suspects)
}

// removalTime is how long a daemon takes at most from the removal of a picture's
// file to that of its row.
const removalTime = time.Second

// suspect is a picture that seems wrong: a daemon may just be removing it.
type suspect struct {
	*storedPicture
	wrong string
}

// accuse tells of those that are still there.
func (v *verification) accuse(ctx context.Context, ledger tables, suspects []suspect) error {
	for _, each := range suspects {
		var there bool
		if err := ledger.row(ctx, `SELECT EXISTS (SELECT 1 FROM images WHERE trigger_id = ? AND path = ?)`, each.triggerID, each.path).Scan(&there); err != nil {
			return err
		}
		if !there {
			v.found.Pictures--
			continue
		}
		of := "trigger " + each.triggerID
		if each.resultID.Valid {
			of = named(each.resultID.String, each.source.String, each.sequence.Int64)
		}
		v.problem("picture %s of %s: %s", each.path, of, each.wrong)
	}
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
