//go:build tensorrt && cgo && linux

package trt

import (
	"fmt"
	"sync"
)

func closedError(object string) error { return fmt.Errorf("TensorRT %s: %w", object, ErrClosed) }

// lifetime counts who uses an object of TensorRT: its owner until Close, and
// what was made from it. The last to leave frees it, so that an engine never
// outlives its runtime.
type lifetime struct {
	mutex  sync.Mutex
	users  int
	closed bool
	free   func()
}

func newLifetime(free func()) *lifetime { return &lifetime{users: 1, free: free} }

// enter adds a user; false: the owner closed it.
func (l *lifetime) enter() bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.closed {
		return false
	}
	l.users++
	return true
}

func (l *lifetime) leave() {
	l.mutex.Lock()
	l.users--
	last := l.users == 0
	l.mutex.Unlock()
	if last {
		l.free()
	}
}

// close is the owner's leave. It may be called twice.
func (l *lifetime) close() {
	l.mutex.Lock()
	closed := l.closed
	l.closed = true
	l.mutex.Unlock()
	if !closed {
		l.leave()
	}
}
