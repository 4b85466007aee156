package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// LowSpaceError says that less is free on the pictures' disk than shall be.
type LowSpaceError struct {
	Dir           string
	Free, MinFree int64 // bytes
}

func (e *LowSpaceError) Error() string {
	return fmt.Sprintf("no pictures are kept and the oldest are removed: %d MiB are free on the disk of %s, of %d MiB that ledger.min_free wants; free some space there",
		e.Free>>20, e.Dir, e.MinFree>>20)
}

// KeepFree has pictures removed, and none stored, while less than a number of
// bytes is free on their disk. It is for the beginning.
func (i *Images) KeepFree(bytes int64) { i.minFree = bytes }

// Wanting gets a token when a picture was not stored for want of space: it is
// time to Prune.
func (i *Images) Wanting() <-chan struct{} { return i.wanting }

// Low is a [LowSpaceError] while too little is free; nil: enough is.
func (i *Images) Low() error { return i.room(0) }

// room says why there is no room for a picture; nil: there is.
func (i *Images) room(bytes int64) error {
	free, err := i.free()
	if err != nil {
		return err
	}
	if free-bytes < i.minFree {
		return &LowSpaceError{Dir: i.dir, Free: free, MinFree: i.minFree}
	}
	return nil
}

// free is how many bytes are free on the pictures' disk.
func (i *Images) free() (int64, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(existing(i.dir), &disk); err != nil {
		return 0, fmt.Errorf("disk of %s: %w", i.dir, err)
	}
	return int64(disk.Bavail) * disk.Bsize, nil
}

// existing is a folder, or the one above it that exists.
func existing(dir string) string {
	for {
		if err := unix.Access(dir, unix.F_OK); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// lacking is how many bytes must go before pictures are stored again: an eighth
// more than the limit, or every single picture would meet it anew.
func (i *Images) lacking() (int64, error) {
	free, err := i.free()
	if err != nil || free >= i.minFree {
		return 0, err
	}
	return i.minFree + i.minFree/8 - free, nil
}

// Prune removes pictures beyond the limits, those of OK parts first, the oldest
// first.
func (i *Images) Prune(ctx context.Context) error {
	i.pruning.Lock()
	defer i.pruning.Unlock()
	if err := i.forget(); err != nil && !isBroken(err) {
		return err
	}
	lacking, err := i.lacking()
	if err != nil {
		return err
	}
	var total int64
	if err := i.ledger.reads.QueryRowContext(ctx, `SELECT coalesce(sum(bytes), 0) FROM images`).Scan(&total); err != nil {
		return fmt.Errorf("ledger: pictures: %w", err)
	}
	for _, bytes := range i.gone { // their rows could not be removed yet
		total -= bytes
	}
	return i.removeOldest(ctx, max(lacking, total-i.maxBytes), 0)
}

// madeRoom is how many pictures go at a time where the file system says that
// enough is free.
const madeRoom = 10

// MakeRoom removes pictures because the ledger has no space: some, even where
// enough seems to be free (there are quotas, and file systems that run out of
// something else), but none where they lie on another disk.
func (i *Images) MakeRoom(ctx context.Context) error {
	if same, err := sameDisk(i.dir, i.ledger.path); err != nil || !same {
		return err
	}
	i.pruning.Lock()
	defer i.pruning.Unlock()
	lacking, err := i.lacking()
	if err != nil {
		return err
	}
	return i.removeOldest(ctx, lacking, madeRoom)
}

func sameDisk(one, other string) (bool, error) {
	var first, second unix.Stat_t
	if err := errors.Join(unix.Stat(existing(one), &first), unix.Stat(existing(other), &second)); err != nil {
		return false, fmt.Errorf("disks of %s and %s: %w", one, other, err)
	}
	return first.Dev == second.Dev, nil
}

// MakeRoomToOpen removes the oldest pictures from a folder because a ledger at a
// path cannot even be opened for want of space. Which of them are of OK parts only
// the ledger knows; it finds out later that they are gone. It returns how many went.
func MakeRoomToOpen(path, dir string) (removed int, err error) {
	if same, err := sameDisk(dir, path); err != nil || !same {
		return 0, err
	}
	pictures, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.png"))
	if err != nil {
		return 0, fmt.Errorf("pictures of %s: %w", dir, err)
	}
	// Their names, and those of the days, grow with time; stations come before them.
	age := func(path string) string { return filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)) }
	slices.SortFunc(pictures, func(a, b string) int { return strings.Compare(age(a), age(b)) })
	for _, picture := range pictures[:min(madeRoom, len(pictures))] {
		if err := os.Remove(picture); err != nil {
			return removed, fmt.Errorf("remove picture: %w", err)
		}
		removed++
	}
	return removed, nil
}

// removeOldest removes at least a number of bytes and of pictures, as far as
// there are. It counts what it removes: some file systems say only later that
// the space is free.
func (i *Images) removeOldest(ctx context.Context, bytes int64, count int) error {
	for (bytes > 0 || count > 0) && ctx.Err() == nil {
		began := time.Now()
		// The rows of those that are gone may still be there.
		found, err := i.find(ctx, `SELECT trigger_id, path, bytes FROM images ORDER BY ok DESC, stored, trigger_id LIMIT ?`, len(i.gone)+pruneStep)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, picture := range found {
			if bytes <= 0 && count <= 0 {
				break
			}
			if err := i.removePicture(picture); err != nil {
				return err
			}
			bytes -= picture.bytes
			count--
		}
		// On a full disk the rows cannot be removed, and the space is wanted all the
		// more: they are when there is room again.
		if err := i.forget(); err != nil && !isBroken(err) {
			return err
		}
		i.ledger.yield(ctx, time.Since(began))
	}
	return ctx.Err()
}
