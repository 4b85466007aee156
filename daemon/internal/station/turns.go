package station

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Turns is the one place that hands out the engines: one inspection at a time,
// in the order in which they were asked for. A station asks for one inspection
// at a time, so that stations which share the engines take turns.
type Turns struct {
	one *semaphore.Weighted

	mutex sync.Mutex
	since time.Time // when the turn under way began; zero: there is none
}

// NewTurns returns turns that nobody has.
func NewTurns() *Turns { return &Turns{one: semaphore.NewWeighted(1)} }

// Take waits for a turn.
func (t *Turns) Take(ctx context.Context) error {
	if err := t.one.Acquire(ctx, 1); err != nil {
		return err
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.since = time.Now()
	return nil
}

// Give ends a turn.
func (t *Turns) Give() {
	t.mutex.Lock()
	t.since = time.Time{}
	t.mutex.Unlock()
	t.one.Release(1)
}

// Since is when the turn under way began; zero: there is none.
func (t *Turns) Since() time.Time {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.since
}
