package ledger

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mattn/go-sqlite3"
)

// While writes fail, it is tried whether they work again: with as much as many
// triggers need, so that what succeeds is worth something.
const (
	probeEvery = time.Second
	probeBytes = 64 << 10
)

// health is whether the ledger can be written.
type health struct {
	failed     chan struct{} // holds a token after a failure
	probeEvery time.Duration

	mutex    sync.Mutex
	problem  error // the last failure; nil: none since the last successful probe
	failures int64
	watchers map[int]func()
	watchID  int
}

// Health says why nothing can be recorded; nil: it can.
func (l *Ledger) Health() error {
	l.health.mutex.Lock()
	defer l.health.mutex.Unlock()
	return l.health.problem
}

// WatchHealth calls a function when nothing can be recorded any more, again with
// every attempt that fails, once a second, and when it can be again; what of it is
// so, Health says. The function must not block. The returned one ends it.
func (l *Ledger) WatchHealth(call func()) (end func()) {
	h := &l.health
	h.mutex.Lock()
	defer h.mutex.Unlock()
	id := h.watchID
	h.watchID++
	h.watchers[id] = call
	return func() {
		h.mutex.Lock()
		defer h.mutex.Unlock()
		delete(h.watchers, id)
	}
}

func (h *health) tell() {
	h.mutex.Lock()
	watchers := slices.Collect(maps.Values(h.watchers))
	h.mutex.Unlock()
	for _, call := range watchers {
		call()
	}
}

// fail notes a failed write.
func (h *health) fail(err error) {
	h.mutex.Lock()
	h.problem = err
	h.failures++
	h.mutex.Unlock()
	select {
	case h.failed <- struct{}{}:
	default:
	}
}

// succeed notes a successful probe, unless something failed since.
func (h *health) succeed(failures int64) bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.failures != failures {
		return false
	}
	h.problem = nil
	return true
}

func (h *health) count() (failures int64) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.failures
}

// isBroken says of an error of a write whether others would fail, too: a
// violated constraint is that write's own fault.
func isBroken(err error) bool {
	cause := sqlite3.Error{}
	return errors.As(err, &cause) && cause.Code != sqlite3.ErrConstraint && cause.Code != sqlite3.ErrMismatch && cause.Code != sqlite3.ErrTooBig
}

// IsFull says whether an error of the ledger, or of a file, is for want of space.
func IsFull(err error) bool {
	cause := sqlite3.Error{}
	if errors.As(err, &cause) {
		return cause.Code == sqlite3.ErrFull || isNoSpace(cause.SystemErrno)
	}
	errno := syscall.Errno(0)
	return errors.As(err, &errno) && isNoSpace(errno)
}

func isNoSpace(errno syscall.Errno) bool { return errno == syscall.ENOSPC || errno == syscall.EDQUOT }

// flushEvery is how often refusals are written that were counted only.
const flushEvery = time.Second

// heal tries, while the ledger is broken, whether it works again. While it is not, it
// writes what was counted only.
func (l *Ledger) heal() {
	defer close(l.healed)
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-l.closing:
			l.flushRefusals()
			return
		case <-ticker.C:
			l.flushRefusals()
		case <-l.health.failed:
		}
		for l.Health() != nil {
			l.health.tell()
			select {
			case <-l.closing:
				return
			case <-time.After(l.health.probeEvery):
			}
			before := l.health.count()
			if l.probe() == nil && l.health.succeed(before) {
				l.flushRefusals()
				l.health.tell()
			}
		}
	}
}

// probe writes something that takes space, and takes it away again: both are in
// the log that every commit is written to. Zeros would take no space on every
// file system.
func (l *Ledger) probe() error {
	return l.commit(func(tx transaction) error {
		if err := tx.exec(`INSERT INTO meta (key, value) VALUES ('probe', randomblob(?))`, probeBytes); err != nil {
			return err
		}
		return tx.exec(`DELETE FROM meta WHERE key = 'probe'`)
	})
}
