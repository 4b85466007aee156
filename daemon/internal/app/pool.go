package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"gladd/daemon/internal/inspection"
	"gladd/engines"
)

// Pool is copies of one model that inspect side by side.
type Pool struct {
	// Models are used by one goroutine each.
	Models  []*inspection.Model
	engines []*Engines
}

// PoolOptions say what a pool is made of.
type PoolOptions struct {
	Engines EngineOptions
	// Parallel is the number of copies; 0: one for each processor where the
	// networks are small, otherwise one.
	Parallel int
	Bundle   *engines.Bundle
	Mode     string
	Plans    []string
	Log      *slog.Logger
}

const (
	maxParallel = 64
	// smallNetworks is the size of the files up to which copies are made
	// unasked.
	smallNetworks = 200 << 20
)

// OpenPool opens a model as often as it is wanted. Every copy has its share of
// the processors: side by side on one thread each, small networks inspect more
// parts than one after the other on all.
func OpenPool(ctx context.Context, options PoolOptions) (*Pool, error) {
	parallel := options.Parallel
	if parallel < 0 || parallel > maxParallel {
		return nil, fmt.Errorf("parallel inspections: expected 0 (chosen by size and processors) to %d, found %d", maxParallel, parallel)
	}
	if parallel == 0 {
		parallel = 1
		if bytes, err := folderBytes(options.Bundle.Dir); err == nil && bytes <= smallNetworks {
			parallel = runtime.GOMAXPROCS(0)
		}
	}
	if options.Engines.Threads == 0 {
		options.Engines.Threads = max(1, runtime.GOMAXPROCS(0)/parallel)
	}
	pool := &Pool{}
	for range parallel {
		opened, err := OpenEngines(options.Engines, options.Log)
		if err != nil {
			return nil, errors.Join(err, pool.Close())
		}
		pool.engines = append(pool.engines, opened)
		model, err := opened.OpenModel(ctx, options.Bundle, options.Mode, options.Plans...)
		if err != nil {
			return nil, errors.Join(err, pool.Close())
		}
		pool.Models = append(pool.Models, model)
		if model.Method.Backend != BackendONNXRuntime {
			break // a GPU's calls run one after the other, and copies would take its memory
		}
		options.Log = slog.New(slog.DiscardHandler) // the others would say the same
	}
	return pool, nil
}

// folderBytes is the size of the files in a folder.
func folderBytes(dir string) (total int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return 0, err
		}
		total += info.Size()
	}
	return total, nil
}

// Close frees the copies. It may be called twice.
func (p *Pool) Close() error {
	var errs []error
	for _, opened := range p.engines {
		errs = append(errs, opened.Close())
	}
	return errors.Join(errs...)
}
