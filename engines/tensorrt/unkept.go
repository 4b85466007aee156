package tensorrt

import (
	"context"
	"sync"
)

// unkept are plans that were built and that the cache had no room for. They serve until
// the process ends: a lost GPU, or a recipe that comes back, needs them again.
type unkept struct {
	mutex sync.Mutex
	plans map[Key]unkeptPlan
}

type unkeptPlan struct {
	entry Entry
	plan  []byte
}

func (u *unkept) put(entry Entry, plan []byte) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if u.plans == nil {
		u.plans = map[Key]unkeptPlan{}
	}
	entry.Plan = contentOf(plan)
	u.plans[entry.Key] = unkeptPlan{entry, plan}
}

func (u *unkept) get(key Key) (found unkeptPlan, is bool) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	found, is = u.plans[key]
	return found, is
}

func (u *unkept) drop(key Key) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	delete(u.plans, key)
}

// plan returns the plan for a key, from the cache or from memory. One in memory is
// put into the cache, if there is room now.
func (b *Backend) plan(key Key) ([]byte, Entry, error) {
	plan, entry, err := b.cache.Get(key)
	if err == nil {
		b.unkept.drop(key)
		return plan, entry, nil
	}
	kept, is := b.unkept.get(key)
	if !is {
		return nil, Entry{}, err
	}
	if err := b.cache.Put(kept.entry, kept.plan); err == nil {
		b.log.Info("an engine that could not be kept is kept now", "network", kept.entry.For.Network)
		b.unkept.drop(key)
	}
	return kept.plan, kept.entry, nil
}

// forget drops a plan that is of no use.
func (b *Backend) forget(ctx context.Context, entry Entry) error {
	b.unkept.drop(entry.Key)
	return b.cache.Drop(ctx, entry)
}
