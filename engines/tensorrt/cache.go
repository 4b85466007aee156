package tensorrt

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"gladd/engines"
)

// Key says what a plan was built for. A plan serves nothing else: TensorRT ties
// it to its own version and to the model of GPU.
type Key struct {
	Graph        string `json:"graph"`         // SHA-256 of the graph and of the files with its weights, hex
	Conversion   string `json:"conversion"`    // of the graph and the settings that it was built with, with their versions
	TensorRT     string `json:"tensorrt"`      // flavor and version
	GPU          string `json:"gpu"`           // the model's name
	ComputeMajor int    `json:"compute_major"` // of the compute capability
	ComputeMinor int    `json:"compute_minor"`
	// Multiprocessors tell GPUs apart that have one name, as Jetson Orins do.
	Multiprocessors int    `json:"multiprocessors"`
	Precision       string `json:"precision"` // fp16 | fp32
	Batches         string `json:"batches"`   // sizes, one optimization profile each
}

// name of the plan's files: any other key has another.
func (k Key) name() string {
	data, err := json.Marshal(k)
	if err != nil {
		panic(err) // strings and numbers only
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// Entry is a plan in the cache.
type Entry struct {
	Key  Key       `json:"key"`
	Plan planFile  `json:"plan"`
	For  purpose   `json:"for"`
	At   time.Time `json:"at"`
	// Seconds that building took.
	Seconds float64 `json:"seconds"`
}

type planFile struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// purpose is for people: which bundle a plan was first built for.
type purpose struct {
	Bundle  string `json:"bundle"`
	Version string `json:"version"`
	Network string `json:"network"`
}

const (
	entrySchema  = "gladd.engine/v1"
	planSuffix   = ".plan"
	entrySuffix  = ".json"
	timingSuffix = ".timing"
	partSuffix   = ".part"
	lockName     = "lock"
	// lockPoll is how often a builder looks whether the other is done.
	lockPoll = 200 * time.Millisecond
)

// Cache is a folder of plans. Several programs may use it at once: files appear
// whole or not at all, and only one builds.
type Cache struct{ dir string }

// NewCache uses a folder, which is made when the first plan is written.
func NewCache(dir string) *Cache { return &Cache{dir: dir} }

// Dir is the cache's folder.
func (c *Cache) Dir() string { return c.dir }

// MissingError says that the cache holds no plan for a key.
type MissingError struct {
	Dir string
	Key Key
	Err error // what is wrong with the plan that is there; nil: none is
}

func (e *MissingError) Error() string {
	what := "no plan"
	if e.Err != nil {
		what = "no usable plan (" + e.Err.Error() + ")"
	}
	return fmt.Sprintf("engine cache %s: %s for TensorRT %s, %s (compute capability %d.%d), %s, batches %s; build it: gladd engines build",
		e.Dir, what, e.Key.TensorRT, e.Key.GPU, e.Key.ComputeMajor, e.Key.ComputeMinor, e.Key.Precision, e.Key.Batches)
}

func (e *MissingError) Unwrap() error { return e.Err }

// CacheError says that the cache's folder cannot be used.
type CacheError struct{ Err error }

func (e *CacheError) Error() string {
	return fmt.Sprintf("engine cache: %v; the folder must be writable and have room: name another with --cache-dir, or engines.cache_dir in the configuration", e.Err)
}

func (e *CacheError) Unwrap() error { return e.Err }

// warnIfOpen warns if others than the owner could put plans there: the digest beside a
// plan guards against damage, not against people.
func (c *Cache) warnIfOpen(log *slog.Logger) {
	const others = 0o022 // group and world may write
	if info, err := os.Stat(c.dir); err == nil && info.Mode().Perm()&others != 0 {
		log.Warn("engine cache: others can write to this folder, and TensorRT runs what is in it; take the right away: chmod go-w", "folder", c.dir, "mode", info.Mode().Perm().String())
	}
}

// Get reads the plan for a key. A plan whose digest is not the one that was
// written down, or that was built for another key, is never returned: TensorRT
// trusts what it is given. Where there is none, the error is a [MissingError].
func (c *Cache) Get(key Key) ([]byte, Entry, error) {
	missing := func(err error) ([]byte, Entry, error) {
		return nil, Entry{}, &MissingError{Dir: c.dir, Key: key, Err: err}
	}
	entry, err := c.entry(key.name())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing(nil)
	case errors.Is(err, fs.ErrPermission):
		return nil, Entry{}, &CacheError{err}
	case err != nil:
		return missing(err)
	case entry.Key != key:
		return missing(fmt.Errorf("%s was built for something else", key.name()+entrySuffix))
	}
	path := c.path(key.name(), planSuffix)
	plan, err := os.ReadFile(path)
	if err != nil {
		return missing(err)
	}
	if found := digest(plan); found != entry.Plan.SHA256 {
		return missing(fmt.Errorf("%s: expected SHA-256 %s, found %s: it is damaged", path, entry.Plan.SHA256, found))
	}
	return plan, entry, nil
}

// Put writes a plan, or replaces one. It is durable when Put returns.
func (c *Cache) Put(entry Entry, plan []byte) error {
	entry.Plan = planFile{SHA256: digest(plan), Bytes: int64(len(plan))}
	document, err := json.MarshalIndent(struct {
		Schema string `json:"schema"`
		Entry
	}{entrySchema, entry}, "", "  ")
	if err != nil {
		return fmt.Errorf("engine cache %s: %w", c.dir, err)
	}
	// The plan first: an entry without its plan would be an error, a plan without
	// an entry is only waste, which Prune removes.
	name := entry.Key.name()
	if err := c.write(name+planSuffix, plan); err != nil {
		return err
	}
	return c.write(name+entrySuffix, append(document, '\n'))
}

// Drop forgets the plan for a key.
func (c *Cache) Drop(key Key) error {
	// The entry first: see Put.
	for _, suffix := range []string{entrySuffix, planSuffix} {
		if err := os.Remove(c.path(key.name(), suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &CacheError{err}
		}
	}
	return nil
}

// List returns all entries, those of a bundle together. Files that cannot be read
// are errors beside those that can.
func (c *Cache) List() (entries []Entry, err error) {
	files, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &CacheError{err}
	}
	var errs []error
	for _, file := range files {
		name, isEntry := strings.CutSuffix(file.Name(), entrySuffix)
		if !isEntry {
			continue
		}
		entry, err := c.entry(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		entries = append(entries, entry)
	}
	slices.SortStableFunc(entries, func(a, b Entry) int {
		place := func(e Entry) int { return slices.Index(engines.GraphNames, engines.GraphName(e.For.Network)) }
		return cmp.Or(cmp.Compare(a.For.Bundle, b.For.Bundle), cmp.Compare(a.For.Version, b.For.Version), cmp.Compare(place(a), place(b)))
	})
	return entries, errors.Join(errs...)
}

// Prune removes all plans but those to keep, what was left of builds that were
// cut off, and what belongs to no entry. It returns the bytes that it freed.
// Nobody builds meanwhile.
func (c *Cache) Prune(ctx context.Context, keep []Key) (freed int64, err error) {
	if _, err := os.Stat(c.dir); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	unlock, err := c.Lock(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer unlock()
	kept := map[string]bool{lockName: true}
	for _, key := range keep {
		kept[key.name()+planSuffix], kept[key.name()+entrySuffix] = true, true
		kept[timingName(key)] = true
	}
	files, err := os.ReadDir(c.dir)
	if err != nil {
		return 0, &CacheError{err}
	}
	var errs []error
	for _, file := range files {
		if kept[file.Name()] || !ours(file.Name()) {
			continue
		}
		path := filepath.Join(c.dir, file.Name())
		size := sizeOf(path)
		if err := os.RemoveAll(path); err != nil {
			errs = append(errs, &CacheError{err})
			continue
		}
		freed += size
	}
	return freed, errors.Join(errs...)
}

// ours says that a file, or the folder of a graph that was being converted, was
// written by a cache: nothing else in the folder is touched.
func ours(name string) bool { return ourNames.MatchString(name) }

var ourNames = regexp.MustCompile(`^([0-9a-f]{32}\.(plan|json|timing)(\.[0-9]+\.part)?|convert-[a-z_]+\.[0-9]+\.part)$`)

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
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, &CacheError{err}
	}
	path := filepath.Join(c.dir, lockName)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if errors.Is(err, fs.ErrPermission) {
		file, err = os.Open(path) // another user's; a lock needs no right to write
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

func (c *Cache) path(name, suffix string) string { return filepath.Join(c.dir, name+suffix) }

// entry reads what is written down about a plan.
func (c *Cache) entry(name string) (Entry, error) {
	path := c.path(name, entrySuffix)
	data, err := os.ReadFile(path)
	if err != nil {
		return Entry{}, err
	}
	var document struct {
		Schema string `json:"schema"`
		Entry
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return Entry{}, fmt.Errorf("%s: %w", path, err)
	}
	if document.Schema != entrySchema {
		return Entry{}, fmt.Errorf("%s: schema: expected %s, found %q; it is from another version of gladd", path, entrySchema, document.Schema)
	}
	return document.Entry, nil
}

// write makes a file appear whole, with its content on the disk.
func (c *Cache) write(name string, data []byte) (err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return &CacheError{err}
	}
	part, err := os.CreateTemp(c.dir, name+".*"+partSuffix)
	if err != nil {
		return &CacheError{err}
	}
	defer func() {
		if err != nil {
			os.Remove(part.Name()) //nolint:errcheck // the first error counts
			err = &CacheError{fmt.Errorf("write %s: %w", filepath.Join(c.dir, name), err)}
		}
	}()
	_, err = part.Write(data)
	if err == nil {
		err = part.Chmod(0o644)
	}
	if err == nil {
		err = part.Sync()
	}
	if err = errors.Join(err, part.Close()); err != nil {
		return err
	}
	if err = os.Rename(part.Name(), filepath.Join(c.dir, name)); err != nil {
		return err
	}
	return syncDir(c.dir)
}

func syncDir(dir string) error {
	opened, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
