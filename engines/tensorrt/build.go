package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gladd/engines"
	"gladd/engines/mixed"
	"gladd/trt"
	"gladd/trt/cuda"
)

// batches are the batch sizes of a network's engine, with one optimization profile
// each. One part at a time is what all calls are that an inspection makes, two
// pictures in a comparison's decoder; more samples are given to an engine in parts.
// Profiles for more would take device memory that no inspection uses.
func batches(name engines.GraphName) []int {
	if name == engines.VAEDecoder {
		return []int{1, 2}
	}
	return []int{1}
}

// most is the largest batch of an engine.
func most(name engines.GraphName) int { return slices.Max(batches(name)) }

// buildVersion changes when the same graph is built with other settings.
const buildVersion = 1

// poolsVersion changes when the limits of an integrated GPU's memory do. What is free is
// no part of a key: the engine of another day is as good.
const poolsVersion = 1

// mostWorkspace is enough for the quickest tactics of convolutions, as a rule.
const mostWorkspace = 1 << 30

// pools are the limits of the builder's memory; 0: TensorRT's own. Those count on all of
// the GPU's memory, or three quarters of it, which on an integrated GPU is the
// computer's: Linux would end a program, maybe gladd itself, before TensorRT gave way.
func (b *Backend) pools(ctx context.Context) (workspace, tactics int64) {
	if !b.device.Properties().Integrated {
		return 0, 0
	}
	var free uint64
	err := b.device.Do(ctx, "look how much memory is free", func(thread *cuda.Thread) (err error) {
		free, _, err = thread.MemoryInfo()
		return err
	})
	if err != nil {
		b.log.Warn("it is not known how much memory is free: the build may take too much", "error", err)
		return 0, 0
	}
	half := int64(free / 2)
	return min(mostWorkspace, half), half
}

// Key of the plan that serves one of a bundle's networks here.
func (b *Backend) Key(bundle *engines.Bundle, name engines.GraphName) Key {
	gpu := b.device.Properties()
	var sizes []string
	for _, each := range batches(name) {
		sizes = append(sizes, strconv.Itoa(each))
	}
	return Key{
		Graph:           bundle.GraphDigest(name),
		Conversion:      b.conversion(name),
		TensorRT:        b.library.Version().String(),
		GPU:             gpu.Name,
		ComputeMajor:    gpu.ComputeMajor,
		ComputeMinor:    gpu.ComputeMinor,
		Multiprocessors: gpu.Multiprocessors,
		Precision:       b.options.Precision,
		Batches:         strings.Join(sizes, ","),
	}
}

// Progress of building a bundle's engines.
type Progress struct {
	Network     engines.GraphName
	Done, Count int // engines that are ready, of how many
	// Phase of TensorRT's work, and how much of it is done, 0 to 1; empty: it tells
	// none.
	Phase string
	Share float64
}

// Build makes sure that the cache holds engines for all of a bundle's networks, or
// builds all anew, and returns how many were built. Only one program builds at a
// time; another waits and then finds what it needs.
func (b *Backend) Build(ctx context.Context, bundle *engines.Bundle, anew bool) (built int, err error) {
	built, err = b.make(ctx, bundle, making{anew: anew, keep: true})
	return built, b.explain(err)
}

// making says how engines are made.
type making struct {
	anew bool // those that are there, too
	keep bool // one that cannot be kept is an error
	told bool // the log has which cannot be used
}

func (b *Backend) make(ctx context.Context, bundle *engines.Bundle, how making) (built int, err error) {
	missing, err := b.missing(bundle, how)
	if err != nil || len(missing) == 0 {
		return 0, err
	}
	unlock, err := b.cache.Lock(ctx, func() {
		b.log.Info("another gladd builds engines; waiting for it", "cache", b.cache.Dir())
		b.tell(Progress{Network: missing[0], Count: len(engines.GraphNames), Phase: "waiting for another gladd"})
	})
	if err != nil {
		return 0, err
	}
	defer unlock()
	how.told = true
	if missing, err = b.missing(bundle, how); err != nil {
		return 0, err
	}
	for i, name := range missing {
		progress := Progress{Network: name, Done: len(engines.GraphNames) - len(missing) + i, Count: len(engines.GraphNames)}
		// Parts are inspected meanwhile, more slowly: a model may be made ready while
		// others serve.
		if err := b.build(ctx, bundle, name, how, progress); err != nil {
			return built, fmt.Errorf("%s: build the engine of %s: %w", bundle.Graph(name).Path, name, err)
		}
		built++
	}
	return built, nil
}

// missing are the networks without an engine.
func (b *Backend) missing(bundle *engines.Bundle, how making) (names []engines.GraphName, err error) {
	for _, name := range engines.GraphNames {
		get := b.plan
		if how.keep {
			get = b.cache.Get
		}
		_, _, err := get(b.Key(bundle, name))
		var missing *MissingError
		switch {
		case err != nil && !errors.As(err, &missing):
			return nil, err
		case err != nil && missing.Err != nil && !how.told:
			b.log.Warn("an engine cannot be used and is built again", "network", string(name), "error", missing.Err)
		}
		if how.anew || err != nil {
			names = append(names, name)
		}
	}
	return names, nil
}

func (b *Backend) build(ctx context.Context, bundle *engines.Bundle, name engines.GraphName, how making, progress Progress) error {
	key := b.Key(bundle, name)
	began := time.Now()
	b.log.Info("building an engine", "network", string(name), "bundle", bundle.Manifest.Name, "for", b.String(), "precision", key.Precision)
	b.tell(progress)
	graph, path, remove, err := b.convert(bundle, name)
	if err != nil {
		return err
	}
	defer remove()
	timing, err := b.cache.Timing(key)
	if err != nil {
		b.log.Warn("times of earlier builds cannot be read; this one takes longer", "error", err)
	}
	workspace, tactics := b.pools(ctx)
	b.builds.RLock()
	defer b.builds.RUnlock()
	plan, err := b.library.Build(ctx, trt.BuildOptions{
		Network:     graph,
		Path:        path,
		Profiles:    profiles(bundle, name),
		Workspace:   workspace,
		Tactics:     tactics,
		FP16:        b.options.Precision == FP16,
		TimingCache: timing,
		Progress: func(p trt.Progress) {
			if len(p.Phases) > 0 && p.Phases[0].Steps > 0 {
				progress.Phase, progress.Share = p.Phases[0].Name, float64(p.Phases[0].Step)/float64(p.Phases[0].Steps)
			}
			b.tell(progress)
		},
	})
	if err != nil {
		return err
	}
	manifest := bundle.Manifest
	entry := Entry{
		Key: key, At: began.UTC(), Seconds: time.Since(began).Seconds(),
		For: purpose{Bundle: manifest.Name, Version: manifest.Version, Network: string(name)},
	}
	if err := b.cache.Put(entry, plan.Data); err != nil {
		if how.keep {
			return err
		}
		// What took minutes is good for this run.
		b.log.Warn("an engine cannot be kept: it is used from memory, and the next start builds it again", "network", string(name), "error", err)
		b.unkept.put(entry, plan.Data)
	}
	if len(plan.TimingCache) > 0 {
		if err := b.cache.PutTiming(key, plan.TimingCache); err != nil {
			b.log.Warn("the times of this build are not kept; the next one takes longer", "error", err)
		}
	}
	b.log.Info("engine built", "network", string(name), "seconds", math.Round(entry.Seconds*10)/10, "bytes", len(plan.Data))
	progress.Done, progress.Phase, progress.Share = progress.Done+1, "", 0
	b.tell(progress)
	return nil
}

func (b *Backend) tell(progress Progress) {
	if b.options.Progress != nil {
		b.options.Progress(progress)
	}
}

// profiles of an engine: its inputs' shapes for each range of batch sizes.
func profiles(bundle *engines.Bundle, name engines.GraphName) []trt.Profile {
	var profiles []trt.Profile
	for _, batch := range batches(name) {
		ranges := map[string]trt.Range{}
		for _, input := range bundle.Manifest.Inputs(name) {
			shape := append([]int64{int64(batch)}, input.Dimensions[1:]...)
			ranges[input.Name] = trt.Range{Min: shape, Opt: shape, Max: shape}
		}
		profiles = append(profiles, trt.Profile{Ranges: ranges})
	}
	return profiles
}

// conversion names what is done to a graph before TensorRT gets it.
func (b *Backend) conversion(name engines.GraphName) string {
	steps := []string{fmt.Sprintf("build/%d", buildVersion)}
	if b.device.Properties().Integrated {
		steps = append(steps, fmt.Sprintf("pools/%d", poolsVersion))
	}
	if name == engines.VAEDecoder {
		steps = append(steps, fmt.Sprintf("energy/%d", energyVersion))
	}
	if b.halves() {
		steps = append(steps, fmt.Sprintf("mixed/%d", mixed.Version))
	}
	return strings.Join(steps, ",")
}

// halves says whether the graph itself must be of FP16: 8.x chooses the precision of
// each layer by itself.
func (b *Backend) halves() bool {
	return b.options.Precision == FP16 && b.library.Version().Major != 8
}
