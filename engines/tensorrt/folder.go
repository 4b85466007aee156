package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

const (
	partSuffix = ".part"
	lockName   = "lock"
	// lockPoll is how often a builder looks whether the other is done.
	lockPoll = 200 * time.Millisecond
)

// ours says that a file, or the folder of a graph that was being converted, was
// written by a cache: nothing else in the folder is touched.
func ours(name string) bool { return ourNames.MatchString(name) }

// A name that begins with a dot is renameio's for a file that is not whole yet.
var ourNames = regexp.MustCompile(`^([0-9a-f]{32}\.(engine|kernels|timing)|\.[0-9a-f]{32}\.(engine|kernels|timing)[0-9]+|convert-[a-z_]+\.[0-9]+\.part)$`)

// sizeOf a file, or of all files in a folder; what cannot be read counts nothing.
func sizeOf(path string) (size int64) {
	filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error { //nolint:errcheck // as said
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}

// Lock waits until nobody else builds; waiting is called once where there is
// somebody. The lock ends with unlock or with the process.
func (c *Cache) Lock(ctx context.Context, waiting func()) (unlock func(), err error) {
	if err := c.make(); err != nil {
		return nil, &CacheError{err}
	}
	path := filepath.Join(c.dir, lockName)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		// Another user's: a lock needs no right to write. Where there is none to open, what
		// is wrong is that none can be made.
		if others, errOpen := os.Open(path); errOpen == nil {
			file, err = others, nil
		}
	}
	if err != nil {
		return nil, &CacheError{err}
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, &CacheError{fmt.Errorf("lock %s: %w", file.Name(), err)}
		}
		if !told && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("engine cache %s: another gladd builds engines: %w", c.dir, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

// make makes the folder, if it is not there. One that root makes belongs to whom the
// folder around it belongs to: the service must be able to write to it.
func (c *Cache) make() error {
	if _, err := os.Stat(c.dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil || os.Geteuid() != 0 {
		return err
	}
	around, err := os.Stat(filepath.Dir(c.dir))
	if err != nil {
		return err
	}
	owner := around.Sys().(*syscall.Stat_t)
	return os.Chown(c.dir, int(owner.Uid), int(owner.Gid))
}

// Timing returns what earlier builds measured on a GPU, nil where none did. It
// makes the next build quicker and more alike.
func (c *Cache) Timing(key Key) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, timingName(key)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// PutTiming replaces what builds measured.
func (c *Cache) PutTiming(key Key, data []byte) error { return c.write(timingName(key), data) }

// timingName is the same for all keys of one GPU and one TensorRT.
func timingName(key Key) string {
	key = Key{TensorRT: key.TensorRT, GPU: key.GPU, ComputeMajor: key.ComputeMajor, ComputeMinor: key.ComputeMinor, Multiprocessors: key.Multiprocessors}
	return key.name() + timingSuffix
}

// write makes a file appear whole, with its content on the disk. A file that is not
// whole yet lies beside it: elsewhere there may be no room.
func (c *Cache) write(name string, parts ...[]byte) error {
	if err := c.make(); err != nil {
		return &CacheError{err}
	}
	path := filepath.Join(c.dir, name)
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(c.dir), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return &CacheError{err}
	}
	for _, part := range parts {
		if err == nil {
			_, err = file.Write(part)
		}
	}
	if err == nil {
		err = file.CloseAtomicallyReplace()
	}
	if err != nil {
		return &CacheError{errors.Join(fmt.Errorf("write %s: %w", path, err), file.Cleanup())}
	}
	return nil
}
