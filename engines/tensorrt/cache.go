package tensorrt

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	Key  Key         `json:"key"`
	Plan planContent `json:"plan"`
	For  purpose     `json:"for"`
	// Of is the digest of the plan that kernels belong to; empty for a plan.
	Of string    `json:"of,omitempty"`
	At time.Time `json:"at"`
	// Seconds that building took.
	Seconds float64 `json:"seconds"`
}

type planContent struct {
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
	entrySchema   = "gladd.engine/v1"
	planSuffix    = ".engine"
	kernelsSuffix = ".kernels"
	timingSuffix  = ".timing"
	// maxHeader is more than any entry takes.
	maxHeader = 16 << 10
)

// Cache is a folder of plans. Several programs may use it at once: files appear
// whole or not at all, and only one builds. A plan and what is written down about it are one
// file, so that nobody ever reads one beside the other's successor: a line of JSON,
// and then the plan.
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
	plan, entry, err := c.read(key, planSuffix)
	switch {
	case err == nil:
		return plan, entry, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, Entry{}, &CacheError{err}
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	return nil, Entry{}, &MissingError{Dir: c.dir, Key: key, Err: err}
}

// read reads what was put for a key; a plan, or what is kept like one.
func (c *Cache) read(key Key, suffix string) ([]byte, Entry, error) {
	path := c.path(key, suffix)
	file, reader, entry, err := openEntry(path)
	if err != nil {
		return nil, Entry{}, err
	}
	defer file.Close()
	if entry.Key != key {
		return nil, Entry{}, fmt.Errorf("%s was built for something else", path)
	}
	plan := make([]byte, entry.Plan.Bytes)
	if _, err := io.ReadFull(reader, plan); err != nil {
		return nil, Entry{}, fmt.Errorf("%s: %w", path, err)
	}
	if found := digest(plan); found != entry.Plan.SHA256 {
		return nil, Entry{}, fmt.Errorf("%s: expected SHA-256 %s, found %s: it is damaged", path, entry.Plan.SHA256, found)
	}
	return plan, entry, nil
}

// openEntry reads what is written down about a plan; the reader has the plan. The file is
// the caller's to close.
func openEntry(path string) (file *os.File, reader *bufio.Reader, entry Entry, err error) {
	if file, err = os.Open(path); err != nil {
		return nil, nil, Entry{}, err
	}
	defer func() {
		if err != nil {
			file.Close()
			err = fmt.Errorf("%s: %w", path, err)
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, Entry{}, err
	}
	reader = bufio.NewReaderSize(file, maxHeader)
	header, err := reader.ReadSlice('\n')
	if err != nil {
		return nil, nil, Entry{}, fmt.Errorf("expected a line of JSON before the plan (%w): it is damaged", err)
	}
	var document struct {
		Schema string `json:"schema"`
		Entry
	}
	if err := json.Unmarshal(header, &document); err != nil {
		return nil, nil, Entry{}, fmt.Errorf("%w: it is damaged", err)
	}
	if document.Schema != entrySchema {
		return nil, nil, Entry{}, fmt.Errorf("schema: expected %s, found %q; it is from another version of gladd", entrySchema, document.Schema)
	}
	if want, found := document.Plan.Bytes, info.Size()-int64(len(header)); found != want {
		return nil, nil, Entry{}, fmt.Errorf("expected a plan of %d bytes, found %d: it is damaged", want, found)
	}
	return file, reader, document.Entry, nil
}

// Put writes a plan, or replaces one. Its content is on the disk when Put returns.
func (c *Cache) Put(entry Entry, plan []byte) error { return c.put(entry, planSuffix, plan) }

func (c *Cache) put(entry Entry, suffix string, plan []byte) error {
	entry.Plan = contentOf(plan)
	header, err := json.Marshal(struct {
		Schema string `json:"schema"`
		Entry
	}{entrySchema, entry})
	if err != nil {
		return fmt.Errorf("engine cache %s: %w", c.dir, err)
	}
	return c.write(entry.Key.name()+suffix, append(header, '\n'), plan)
}

func contentOf(plan []byte) planContent {
	return planContent{SHA256: digest(plan), Bytes: int64(len(plan))}
}

// Drop forgets a plan, unless another was put in its place meanwhile. Nobody builds
// while it does.
func (c *Cache) Drop(ctx context.Context, entry Entry) error {
	unlock, err := c.Lock(ctx, nil)
	if err != nil {
		return err
	}
	defer unlock()
	path := c.path(entry.Key, planSuffix)
	file, _, found, err := openEntry(path)
	if err == nil {
		file.Close()
	}
	if err == nil && found.Plan.SHA256 != entry.Plan.SHA256 || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return &CacheError{err}
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
		if !strings.HasSuffix(file.Name(), planSuffix) || !ours(file.Name()) {
			continue
		}
		opened, _, entry, err := openEntry(filepath.Join(c.dir, file.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		opened.Close()
		entries = append(entries, entry)
	}
	slices.SortStableFunc(entries, func(a, b Entry) int {
		place := func(e Entry) int { return slices.Index(engines.GraphNames, engines.GraphName(e.For.Network)) }
		return cmp.Or(cmp.Compare(a.For.Bundle, b.For.Bundle), cmp.Compare(a.For.Version, b.For.Version), cmp.Compare(place(a), place(b)))
	})
	return entries, errors.Join(errs...)
}

func (c *Cache) path(key Key, suffix string) string { return filepath.Join(c.dir, key.name()+suffix) }

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
