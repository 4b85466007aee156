package mes

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"gladd/daemon/internal/verdict"
)

// Limits of what comes in for a station: a flood of commands must not slow
// inspections down.
const (
	commandsPerSecond = 200
	commandsAtOnce    = commandsWaiting
	// othersPerSecond is for commands other than start, which a flood of those must
	// not keep out.
	othersPerSecond = 20
	// repliesPerSecond is how many of those that are refused for a limit get a
	// reply.
	repliesPerSecond = 5
	// tellFlood is how often the log tells of refusals at most.
	tellFlood = 10 * time.Second
)

// limit is that of one station.
type limit struct {
	starts  *rate.Limiter
	others  *rate.Limiter
	replies *rate.Limiter

	mutex   sync.Mutex
	told    time.Time
	refused int // since it was told
}

func newLimit() *limit {
	return &limit{
		starts:  rate.NewLimiter(commandsPerSecond, commandsAtOnce),
		others:  rate.NewLimiter(othersPerSecond, othersPerSecond),
		replies: rate.NewLimiter(repliesPerSecond, repliesPerSecond),
	}
}

// admit says whether a command may be taken. One that may not is refused here,
// without being understood and without a write to the ledger.
func (c *Client) admit(station, verb string, payload []byte) bool {
	switch limit := c.limits[station]; {
	case len(payload) > verdict.MaxCommandBytes:
		c.refuseAtOnce(station, verb, nil, verdict.RefusedInvalid, fmt.Sprintf("expected at most %d bytes, found more", verdict.MaxCommandBytes))
	case isStart(verb) && !limit.starts.Allow():
		c.refuseAtOnce(station, verb, payload, verdict.RefusedBusy, fmt.Sprintf("more than %d starts a second", commandsPerSecond))
	case !isStart(verb) && !limit.others.Allow():
		c.refuseAtOnce(station, verb, payload, verdict.RefusedBusy, fmt.Sprintf("more than %d such commands a second", othersPerSecond))
	default:
		return true
	}
	return false
}

// refuseAtOnce refuses a command for which there is no time or no room. Every
// refusal is counted. Those few that get a reply are settled like any other: the
// reply is kept by the command's id, or it is the first reply to that.
func (c *Client) refuseAtOnce(station, verb string, payload []byte, code verdict.RefusalCode, detail string) {
	source := c.topics.source(station)
	limit := c.limits[station]
	if count := limit.tell(); count > 0 {
		c.options.Log.Warn("commands were refused at once", "station", station, "count", count, "reason", code, "detail", detail)
	}
	if !limit.replies.Allow() {
		c.options.Ledger.CountRefusal(source, code)
		return
	}
	go func() {
		reply, err := c.options.Ledger.Refuse(source, verdict.Reply{Verb: verdict.Verb(verb), CommandID: verdict.CommandID(payload), Reason: &verdict.Refusal{Code: code, Detail: detail}})
		if err != nil {
			return // it may have been accepted before; whoever repeats it is told
		}
		c.reply(context.Background(), station, verb, reply)
	}()
}

// tell counts a refusal, and returns how many are to be told of; 0: none yet.
func (l *limit) tell() (count int) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.refused++
	if time.Since(l.told) < tellFlood {
		return 0
	}
	count = l.refused
	l.told, l.refused = time.Now(), 0
	return count
}
