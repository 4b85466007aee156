package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gladd/engines"
)

// Pruning says what a cache may lose.
type Pruning struct {
	Keep []Key // of the engines in use
	// TensorRT is the version in use: what was built for others is kept, for the day that
	// they come back. Empty: nothing is kept for that.
	TensorRT string
}

// Pruned is what a cache has lost.
type Pruned struct {
	Removed []Removed
	Others  int // engines of other versions of TensorRT that were kept
}

// Removed is a file, or the folder of a build that was cut off.
type Removed struct {
	Name  string
	What  string // for people
	Bytes int64
}

// Bytes that were freed.
func (p Pruned) Bytes() (bytes int64) {
	for _, each := range p.Removed {
		bytes += each.Bytes
	}
	return bytes
}

// Prune removes all plans but those to keep, what is damaged, and what was left of builds
// that were cut off. Nobody builds meanwhile.
func (c *Cache) Prune(ctx context.Context, pruning Pruning) (pruned Pruned, err error) {
	if _, err := os.Stat(c.dir); errors.Is(err, fs.ErrNotExist) {
		return pruned, nil
	}
	unlock, err := c.Lock(ctx, nil)
	if err != nil {
		return pruned, err
	}
	defer unlock()
	files, err := os.ReadDir(c.dir)
	if err != nil {
		return pruned, &CacheError{err}
	}
	kept := map[string]bool{lockName: true}
	for _, key := range pruning.Keep {
		kept[timingName(key)] = true
		c.keep(kept, key, planSuffix)
		for _, batch := range strings.Split(key.Batches, ",") {
			c.keep(kept, kernelsKey(key, batch), kernelsSuffix)
		}
	}
	what := map[string]string{}
	for _, file := range files {
		if name := file.Name(); !kept[name] && ours(name) {
			what[name] = c.judge(name, pruning.TensorRT, kept, &pruned)
		}
	}
	var errs []error
	for _, file := range files {
		name := file.Name()
		if kept[name] || !ours(name) {
			continue
		}
		path := filepath.Join(c.dir, name)
		size := sizeOf(path)
		if err := os.RemoveAll(path); err != nil {
			errs = append(errs, &CacheError{err})
			continue
		}
		pruned.Removed = append(pruned.Removed, Removed{Name: name, What: what[name], Bytes: size})
	}
	return pruned, errors.Join(errs...)
}

// keep keeps what was put for a key, unless it is damaged: then it is of no use.
func (c *Cache) keep(kept map[string]bool, key Key, suffix string) {
	if _, _, err := c.read(key, suffix); err == nil || errors.Is(err, fs.ErrPermission) {
		kept[key.name()+suffix] = true
	}
}

// judge says what a file is, and keeps it with its times if it is of another version of
// TensorRT.
func (c *Cache) judge(name, version string, kept map[string]bool, pruned *Pruned) string {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, partSuffix) {
		return "left of a build that was cut off"
	}
	if strings.HasSuffix(name, timingSuffix) {
		return "times of builds"
	}
	file, _, entry, err := openEntry(filepath.Join(c.dir, name))
	if err != nil {
		return "damaged"
	}
	file.Close()
	if _, _, err := c.read(entry.Key, filepath.Ext(name)); err != nil {
		return "damaged"
	}
	if version != "" && entry.Key.TensorRT != version {
		kept[name], kept[timingName(entry.Key)] = true, true
		if strings.HasSuffix(name, planSuffix) {
			pruned.Others++
		}
	}
	return fmt.Sprintf("%s of %s %s for %s, %s", entry.For.Network, entry.For.Bundle, entry.For.Version, entry.Key.TensorRT, entry.Key.GPU)
}

// Prune removes all engines but those of some bundles here; those of other versions of
// TensorRT only if it shall.
func (b *Backend) Prune(ctx context.Context, otherVersions bool, bundles ...*engines.Bundle) (Pruned, error) {
	pruning := Pruning{TensorRT: b.library.Version().String()}
	if otherVersions {
		pruning.TensorRT = ""
	}
	for _, bundle := range bundles {
		for _, name := range engines.GraphNames {
			pruning.Keep = append(pruning.Keep, b.Key(bundle, name))
		}
	}
	return b.cache.Prune(ctx, pruning)
}
