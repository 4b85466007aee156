package mes

import (
	"math/rand/v2"
	"time"
)

// Times between attempts to connect.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// backoff says how long to wait before the next attempt: ever longer, and not
// all boxes of a plant in step. Its zero value begins with the shortest time.
type backoff struct{ last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(firstRetry, 2*b.last), lastRetry)
	return b.last/2 + rand.N(b.last/2)
}
