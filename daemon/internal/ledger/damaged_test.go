package ledger

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
)

// pixels digests a picture's pixels, as a record has them.
func pixels(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	picture, err := png.Decode(file)
	if err != nil {
		return "", err
	}
	r, g, b, _ := picture.At(0, 0).RGBA()
	return fmt.Sprintf("%x", sha256.Sum256([]byte{byte(r), byte(g), byte(b)})), nil
}

func onePixel(t testing.TB, gray uint8) (content []byte, digest string) {
	t.Helper()
	picture := image.NewRGBA(image.Rect(0, 0, 1, 1))
	picture.Set(0, 0, color.RGBA{gray, gray, gray, 255})
	var file bytes.Buffer
	if err := png.Encode(&file, picture); err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), fmt.Sprintf("%x", sha256.Sum256([]byte{gray, gray, gray}))
}

// damaged is a ledger that is right until a test changes it: three results of
// st-01 with pictures, two of st-02, and a part of two views.
type damaged struct {
	t         *testing.T
	path, dir string // of the ledger, of pictures
	st01      []*verdict.Record
	st02      []*verdict.Record
	part      *verdict.Record
	pictures  []string
}

func newDamaged(t *testing.T) *damaged {
	t.Helper()
	dir := t.TempDir()
	d := &damaged{t: t, path: filepath.Join(dir, "ledger.db"), dir: filepath.Join(dir, "images")}
	l := openTest(t, d.path)
	images := NewImages(l, d.dir, 1<<30)
	for i, evaluation := range []verdict.Evaluation{verdict.OK, verdict.NotOK, verdict.OK} {
		content, digest := onePixel(t, uint8(i))
		made := draft("")
		made.Times.Triggered = verdict.Time{Time: time.Date(2026, 11, 24, 8, 0, i, 0, time.UTC)}
		if _, _, err := l.Begin(source, made); err != nil {
			t.Fatal(err)
		}
		stored, err := images.Store("st-01", made.TriggerID, made.Times.Triggered.Time, content)
		if err != nil {
			t.Fatal(err)
		}
		made.Evaluation, made.Image, made.Times.Finished = evaluation, &verdict.Image{SHA256: digest, Width: 1, Height: 1, Kept: true}, made.Times.Triggered
		if evaluation != verdict.OK {
			made.Reason = &verdict.Reason{Code: verdict.ReasonAnomaly}
		}
		if err := l.Finish(source, made, time.Time{}, stored); err != nil {
			t.Fatal(err)
		}
		d.st01, d.pictures = append(d.st01, made), append(d.pictures, stored.path)
	}
	at := verdict.Time{Time: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)}
	for range 2 {
		d.st02 = append(d.st02, record(t, l, "/p/l/st-02", func(made *verdict.Record) { made.Times.Triggered = at }))
	}
	for _, view := range []string{front, back} {
		finishView(t, l, beginView(t, l, "P-1", view), verdict.OK)
	}
	d.part = parts(t, l)[0]
	if _, err := l.Refuse(source, verdict.Reply{Reason: &verdict.Refusal{Code: verdict.RefusedBusy}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return d
}

// sql changes the ledger.
func (d *damaged) sql(statement string, arguments ...any) {
	d.t.Helper()
	runSQL(d.t, d.path, fmt.Sprintf(statement, arguments...))
}

// edit changes a record's text, as one would who hides it.
func (d *damaged) edit(of *verdict.Record, from, to string) {
	d.t.Helper()
	d.sql(`UPDATE results SET record = replace(record, '%s', '%s') WHERE result_id = '%s'`, from, to, of.ResultID)
	digestAll(d.t, d.path)
}

// stored reads a result's row.
func (d *damaged) stored(of *verdict.Record) (record []byte, digest string) {
	d.t.Helper()
	if err := openRaw(d.t, d.path).QueryRow(`SELECT CAST(record AS BLOB), digest FROM results WHERE result_id = ?`, of.ResultID).Scan(&record, &digest); err != nil {
		d.t.Fatal(err)
	}
	return record, digest
}

// withoutConstraints makes room for what SQLite would refuse.
const withoutConstraints = `CREATE TABLE bare AS SELECT * FROM results; DROP TABLE results; ALTER TABLE bare RENAME TO results; `

func (d *damaged) picture(i int, content []byte) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, d.pictures[i]), content, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *damaged) verify(options VerifyOptions) ([]string, *Verified) {
	d.t.Helper()
	options.ImagesDir, options.ReadPicture = d.dir, pixels
	return verify(d.t, openTestReader(d.t, d.path), options)
}
