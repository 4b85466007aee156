package ledger

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
)

// tmpfs holds what is written to it to the byte, so that these tests need not
// guess: a picture of pictureBytes takes as much.
const pictureBytes = 64 << 10

// storePictures stores a picture for each of some parts and returns the paths.
func storePictures(t testing.TB, l *Ledger, images *Images, evaluations ...verdict.Evaluation) (paths []string) {
	t.Helper()
	for _, evaluation := range evaluations {
		record := begin(t, l, "")
		stored, err := images.Store("st-01", record.TriggerID, record.Times.Triggered.Time, make([]byte, pictureBytes))
		if err != nil {
			t.Fatal(err)
		}
		record.Evaluation = evaluation
		record.Times.Finished = verdict.Time{Time: time.Now()}
		if err := l.Finish(source, record, time.Time{}, stored); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, filepath.Join(images.dir, stored.path))
	}
	return paths
}

// there shows which files exist.
func there(paths []string) string {
	found := make([]byte, len(paths))
	for i, path := range paths {
		found[i] = '-'
		if _, err := os.Stat(path); err == nil {
			found[i] = 'x'
		}
	}
	return string(found)
}

func free(t testing.TB, images *Images) int64 {
	t.Helper()
	bytes, err := images.free()
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// Below the limit pictures go, the rest goes on.
func TestLowSpace(t *testing.T) {
	dir := tmpfs(t, "8m")
	l := openTest(t, filepath.Join(t.TempDir(), "ledger.db"))
	images := NewImages(l, filepath.Join(dir, "images"), 1<<30)
	images.KeepFree(2 << 20)
	if err := images.Low(); err != nil {
		t.Errorf("an empty disk has room: found %v", err)
	}
	paths := storePictures(t, l, images, verdict.NotOK, verdict.OK, verdict.NotOK, verdict.OK, verdict.OK, verdict.OK, verdict.OK, verdict.OK)
	filler := filepath.Join(dir, "filler")
	fillTo := func(left int64) {
		if err := errors.Join(os.WriteFile(filler, nil, 0o600), os.WriteFile(filler, make([]byte, free(t, images)-left), 0o600)); err != nil {
			t.Fatal(err)
		}
	}

	fillTo(2<<20 + pictureBytes/2)
	if err := images.Low(); err != nil {
		t.Errorf("enough is free: found %v", err)
	}
	record := begin(t, l, "")
	store := func() error {
		_, err := images.Store("st-01", record.TriggerID, record.Times.Triggered.Time, make([]byte, pictureBytes))
		return err
	}
	low := &LowSpaceError{}
	if err := store(); !errors.As(err, &low) || low.MinFree != 2<<20 {
		t.Errorf("a picture that takes too much is not stored: found %v", err)
	}
	select {
	case <-images.Wanting():
	default:
		t.Error("pictures are to be removed at once")
	}
	if files, err := filepath.Glob(filepath.Join(dir, "images", "*", "*", "*"+record.TriggerID+"*")); err != nil || len(files) > 0 {
		t.Errorf("nothing of it is left: found %v, %v", files, err)
	}

	// 64 KiB are lacking, and an eighth of the limit with them: 256 KiB.
	fillTo(2<<20 - pictureBytes)
	if err := images.Low(); err == nil || !strings.Contains(err.Error(), "1 MiB are free on the disk of "+images.dir+", of 2 MiB that ledger.min_free wants") {
		t.Errorf("found %v", err)
	}
	if err := images.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := there(paths); found != "x-x----x" {
		t.Errorf("the oldest OK ones go: want x-x----x, found %s", found)
	}
	if rows := countRows(t, l, "images"); rows != 3 {
		t.Errorf("want 3 pictures noted, found %d", rows)
	}
	if err := images.Low(); err != nil {
		t.Errorf("there is room again: found %v", err)
	}
	if err := store(); err != nil {
		t.Errorf("there is room again: found %v", err)
	}

	// Where others have filled the disk, all pictures go, and no record.
	fillTo(1 << 20)
	for range 2 {
		if err := images.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if found := there(paths); found != "--------" {
		t.Errorf("found %s", found)
	}
	if err := images.Low(); err == nil {
		t.Error("too little is free still")
	}
	if results := countRows(t, l, "results"); results != len(paths) {
		t.Errorf("want all %d records, found %d", len(paths), results)
	}
}

// The ledger's disk is full to the last byte: pictures make room, though not even
// their removal can be written down.
func TestFullDiskIsFreedByPictures(t *testing.T) {
	dir := tmpfs(t, "4m")
	l := openQuick(t, filepath.Join(dir, "ledger.db"))
	images := NewImages(l, filepath.Join(dir, "images"), 1<<30)
	unfinished := begin(t, l, "")
	paths := storePictures(t, l, images, verdict.OK, verdict.OK, verdict.NotOK)
	came := notices(t, l)
	fillDisk(t, dir)
	if err := beginUntilFull(t, l); !IsFull(err) {
		t.Fatalf("want a full disk, found %v", err)
	}
	waitHealth(t, came, false) //nolint:errcheck // it is waited for

	// What removes pictures is hindered for a moment: their rows stay, the files do not.
	readOnly(t, l, true)
	if err := images.MakeRoom(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := there(paths); found != "---" {
		t.Errorf("all of so few go: found %s", found)
	}
	if rows := countRows(t, l, "images"); rows != 3 {
		t.Errorf("want the rows still there, found %d", rows)
	}
	if err := images.MakeRoom(t.Context()); err != nil {
		t.Errorf("there is nothing left to remove: %v", err)
	}
	if _, err := l.writer.ExecContext(t.Context(), `PRAGMA query_only = 0`); err != nil {
		t.Fatal(err)
	}
	waitHealth(t, came, true) //nolint:errcheck // it is waited for
	finish(t, l, unfinished, verdict.OK)
	if err := images.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rows := countRows(t, l, "images"); rows != 0 || len(images.gone) != 0 {
		t.Errorf("want the rows removed with room again, found %d, and %d to be removed", rows, len(images.gone))
	}
}

// What is gone and has its row still does not count, and is not removed twice.
func TestGonePicturesDoNotCount(t *testing.T) {
	l := openQuick(t, filepath.Join(t.TempDir(), "ledger.db"))
	images := NewImages(l, t.TempDir(), 3*pictureBytes)
	paths := storePictures(t, l, images, verdict.OK, verdict.OK, verdict.OK, verdict.OK, verdict.OK)
	readOnly(t, l, true)
	for range 3 {
		if err := images.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if found := there(paths); found != "--xxx" {
			t.Errorf("want what is within the limit kept, found %s", found)
		}
	}
	came := notices(t, l)
	if _, err := l.writer.ExecContext(t.Context(), `PRAGMA query_only = 0`); err != nil {
		t.Fatal(err)
	}
	waitHealth(t, came, true) //nolint:errcheck // it is waited for
	images.maxBytes = 2 * pictureBytes
	if err := images.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, rows := there(paths), countRows(t, l, "images"); found != "---xx" || rows != 2 {
		t.Errorf("want the next one gone, found %s and %d rows", found, rows)
	}
}

// After a restart, a full disk does not even let the ledger be opened.
func TestOpenOnAFullDisk(t *testing.T) {
	dir := tmpfs(t, "4m")
	path := filepath.Join(dir, "ledger.db")
	l := openTest(t, path)
	images := NewImages(l, filepath.Join(dir, "images"), 1<<30)
	paths := storePictures(t, l, images, slices.Repeat([]verdict.Evaluation{verdict.NotOK}, madeRoom+2)...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	fillDisk(t, dir)
	if _, err := Open(t.Context(), Options{Path: path}); !IsFull(err) {
		t.Fatalf("want a full disk, found %v", err)
	}
	other := filepath.Join(tmpfs(t, "1m"), "ledger.db")
	if removed, err := MakeRoomToOpen(other, images.dir); err != nil || removed != 0 {
		t.Errorf("want what is on another disk left alone, found %d removed, %v", removed, err)
	}
	if removed, err := MakeRoomToOpen(path, images.dir); err != nil || removed != madeRoom {
		t.Errorf("want %d removed, found %d, %v", madeRoom, removed, err)
	}
	if found, want := there(paths), strings.Repeat("-", madeRoom)+"xx"; found != want {
		t.Errorf("want %s, found %s", want, found)
	}
	l = openTest(t, path)
	begin(t, l, "")
}

// Pictures on another disk make no room for the ledger.
func TestOtherDisk(t *testing.T) {
	l := newLedger(t)
	images := NewImages(l, filepath.Join(tmpfs(t, "2m"), "images"), 1<<30)
	paths := storePictures(t, l, images, verdict.OK)
	if err := images.MakeRoom(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := there(paths); found != "x" {
		t.Errorf("want it kept, found %s", found)
	}
}

// The pages of what was removed are used again: the file grows no further.
func TestFreePagesAreUsedAgain(t *testing.T) {
	l := newQuickLedger(t)
	images := NewImages(l, t.TempDir(), 1<<30)
	pages := func() (pages, unused int) {
		if err := l.reads.QueryRow(`SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count`).Scan(&pages, &unused); err != nil {
			t.Fatal(err)
		}
		return pages, unused
	}
	most := 0
	for round := range 4 {
		for range 200 {
			record := draft("")
			record.Context = []byte(`{"a":"` + string(bytes.Repeat([]byte("x"), 1000)) + `"}`)
			if _, _, err := l.Begin(source, record); err != nil {
				t.Fatal(err)
			}
			finish(t, l, record, verdict.OK)
			if err := l.Delivered(&Entry{Source: source, Sequence: record.Sequence}); err != nil {
				t.Fatal(err)
			}
		}
		full, _ := pages()
		if round == 0 {
			most = full
		}
		if full > most+most/10 {
			t.Errorf("round %d: want about %d pages as in the first, found %d", round, most, full)
		}
		if err := images.PruneRecords(t.Context(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if after, unused := pages(); after > full || unused < after/2 {
			t.Errorf("round %d: want most of %d pages unused, found %d", round, after, unused)
		}
	}
}

// A file system that ran into an error refuses every write from then on.
func TestFileSystemBecomesReadOnly(t *testing.T) {
	dir, device := extFileSystem(t)
	l := openQuick(t, filepath.Join(dir, "ledger.db"))
	came := notices(t, l)
	begin(t, l, "")
	if err := os.WriteFile("/sys/fs/ext4/"+device+"/trigger_fs_error", []byte("1"), 0o200); err != nil {
		t.Skipf("this kernel has no errors to try: %v", err)
	}
	if _, _, err := l.Begin(source, draft("")); err == nil || !strings.Contains(err.Error(), "read-only file system") {
		t.Errorf("want a read-only file system, found %v", err)
	}
	if err := waitHealth(t, came, false); err == nil || IsFull(err) || !strings.Contains(err.Error(), "read-only file system") {
		t.Errorf("want a read-only file system, found %v", err)
	}
}

// extFileSystem mounts a file system of the kind that boxes have.
func extFileSystem(t *testing.T) (dir, device string) {
	t.Helper()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	for _, command := range [][]string{
		{"truncate", "-s", "16M", file}, {"mkfs.ext4", "-q", file}, {"mount", "-o", "loop,errors=remount-ro", file, dir},
	} {
		if output, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("this machine mounts no file: %v: %v: %s", command, err, output)
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	before, _, found := strings.Cut(string(mounts), " "+dir+" ")
	if !found {
		t.Fatalf("%s is not mounted", dir)
	}
	return dir, filepath.Base(before[strings.LastIndexByte(before, '\n')+1:])
}
