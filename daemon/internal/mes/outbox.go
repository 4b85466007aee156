package mes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Verdicts that the MES does not acknowledge are sent again.
const (
	// longestWait is how long it takes at most until the next time.
	longestWait = 10 * time.Minute
	// parkedAfter is how often one was sent when people are told of it.
	parkedAfter = 3
	// repeatedAtOnce is how many go out for their time before others have theirs.
	repeatedAtOnce = 20
	// window is how many of those that come again in a row may be without an
	// acknowledgement at a time. Brokers hold back only so many for a slow
	// subscriber, of all stations, and drop the rest: mosquitto 1000
	// (mosquitto.conf, max_queued_messages).
	window = 100
	// notedAtOnce is how many of a row share a commit.
	notedAtOnce = 64
)

// publisher sends one source's verdicts over one connection, in order and one at
// a time.
//
// Without acknowledgements by the MES a verdict leaves the outbox when the broker
// has it. With them it stays, and comes again: by itself, when its time has come;
// and in a row with all that were sent before, the oldest first and before any
// new one, when the connection is new or the MES is back.
type publisher struct {
	connection *connection
	source     string
	wake       chan struct{}

	newest int64     // the highest sequence that was ever sent; those behind it are new
	looked time.Time // when it was last looked for those whose time has come

	mutex    sync.Mutex
	open     map[string]bool // of the row under way, those without an acknowledgement
	heard    time.Time       // of the MES
	repeated bool            // since then, some were sent again for want of an answer
	returned bool            // it is back
	told     bool            // the log has it that the MES does not answer
	// An MES that is there and leaves old verdicts unanswered must not hold up the
	// new ones with a row each time that it answers one.
	noRowBefore time.Time
	rowPause    time.Duration
}

func newPublisher(n *connection, source string) *publisher {
	return &publisher{connection: n, source: source, wake: make(chan struct{}, 1), heard: time.Now()}
}

// look has the publisher look for what there is to do.
func (p *publisher) look() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *publisher) ledger() *ledger.Ledger { return p.connection.client.options.Ledger }

func (p *publisher) ackTimeout() time.Duration { return p.connection.client.options.AckTimeout }

// publish publishes until ctx ends. It returns why the connection is of no more
// use.
func (p *publisher) publish(ctx context.Context) error {
	if !p.connection.client.options.RequireAck {
		return p.publishOnce(ctx)
	}
	if !p.connection.insist(ctx, func() (err error) { p.newest, err = p.ledger().LastSent(p.source); return err }) {
		return nil
	}
	if err := p.publishRow(ctx, true); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if p.isBack() {
			if err := p.publishRow(ctx, false); err != nil {
				return err
			}
		}
		entry := p.next(ctx, p.newest)
		if entry != nil {
			if err := p.publishNew(ctx, entry); err != nil {
				return err
			}
		}
		if err := p.repeatDue(ctx); err != nil {
			return err
		}
		if entry == nil {
			p.wait(ctx, p.lookEvery())
		}
	}
	return nil
}

// publishNew publishes a verdict for the first time. That is noted before the next
// one goes out.
func (p *publisher) publishNew(ctx context.Context, entry *ledger.Entry) error {
	if _, err := p.connection.publishVerdict(ctx, entry); err != nil {
		return err
	}
	if p.note(ctx, p.sending(entry, p.waitAfter(1))) {
		p.newest = entry.Sequence
	}
	return nil
}

// publishOnce publishes without acknowledgements by the MES.
func (p *publisher) publishOnce(ctx context.Context) error {
	after := int64(0) // which leaves those behind that the MES rejected when they were asked for
	for ctx.Err() == nil {
		entry := p.next(ctx, after)
		if entry == nil {
			p.wait(ctx, time.Hour)
			continue
		}
		published, err := p.connection.publishVerdict(ctx, entry)
		if err != nil {
			return err
		}
		if !published {
			after = entry.Sequence
			continue
		}
		// The next one goes out only when this one's delivery is noted: it would
		// come again after a restart, behind the next.
		if !p.connection.insist(ctx, func() error { return p.ledger().Delivered(entry) }) {
			return nil
		}
		after = entry.Sequence
	}
	return nil
}

// next is the oldest entry behind a sequence; nil: there is none now.
func (p *publisher) next(ctx context.Context, after int64) (entry *ledger.Entry) {
	p.connection.insist(ctx, func() (err error) { entry, err = p.ledger().Next(p.source, after); return err })
	return entry
}

// wait waits for something to do, for a time at most.
func (p *publisher) wait(ctx context.Context, longest time.Duration) {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-p.wake:
	case <-timer.C:
	}
}

// sending says that an entry was sent now, and is due again after a time.
func (p *publisher) sending(entry *ledger.Entry, after time.Duration) ledger.Sending {
	now := p.connection.client.wall()
	return ledger.Sending{Entry: entry, At: now, Due: now.Add(after)}
}

// note has the ledger note what was sent; false: the connection ends.
func (p *publisher) note(ctx context.Context, sendings ...ledger.Sending) bool {
	return len(sendings) == 0 || p.connection.insist(ctx, func() error { return p.ledger().Sent(sendings...) })
}

// waitAfter is how long an acknowledgement is waited for after a number of tries.
func (p *publisher) waitAfter(tries int64) time.Duration {
	after := p.ackTimeout()
	for ; tries > 1 && after < longestWait; tries-- {
		after *= 2
	}
	return min(after, longestWait)
}

// lookEvery is how often it is looked for those whose time has come.
func (p *publisher) lookEvery() time.Duration {
	return min(max(p.ackTimeout()/4, 10*time.Millisecond), time.Second)
}

// repeatDue sends those again whose time has come, some at a time.
func (p *publisher) repeatDue(ctx context.Context) error {
	if time.Since(p.looked) < p.lookEvery() {
		return nil
	}
	p.looked = time.Now()
	var due []*ledger.Entry
	if !p.connection.insist(ctx, func() (err error) {
		due, err = p.ledger().Due(p.source, p.connection.client.wall(), longestWait, repeatedAtOnce)
		return err
	}) {
		return nil
	}
	var sendings []ledger.Sending
	for _, entry := range due {
		if !p.connection.client.damaged.has(entry.ResultID) {
			p.missAnswer(entry)
		}
		if _, err := p.connection.publishVerdict(ctx, entry); err != nil {
			return err
		}
		sending := p.sending(entry, p.waitAfter(entry.Tries+1))
		sending.Park = entry.Tries >= parkedAfter
		sendings = append(sendings, sending)
	}
	p.note(ctx, sendings...)
	return nil
}

// publishRow sends all again that were sent before and are not acknowledged. On a
// connection that is not new the MES is back.
func (p *publisher) publishRow(ctx context.Context, isNew bool) error {
	p.beginRow()
	defer p.endRow()
	var sendings []ledger.Sending
	for after := int64(0); ; {
		var entry *ledger.Entry
		if !p.connection.insist(ctx, func() (err error) { entry, err = p.ledger().Again(p.source, after, p.newest); return err }) {
			return nil
		}
		if entry == nil {
			p.rowPause = 0
			break
		}
		if !p.hasRoom(ctx, entry) {
			p.stall(isNew)
			break
		}
		if _, err := p.connection.publishVerdict(ctx, entry); err != nil {
			return err
		}
		sendings = append(sendings, p.sending(entry, p.waitAfter(1)))
		if len(sendings) == notedAtOnce {
			if !p.note(ctx, sendings...) {
				return nil
			}
			sendings = sendings[:0]
		}
		after = entry.Sequence
	}
	p.note(ctx, sendings...)
	return nil
}

func (p *publisher) beginRow() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.open = map[string]bool{}
}

func (p *publisher) endRow() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.open = nil
}

// hasRoom waits until the row may go on with an entry; false: the MES does not
// answer.
func (p *publisher) hasRoom(ctx context.Context, entry *ledger.Entry) bool {
	began := time.Now()
	for ctx.Err() == nil {
		p.mutex.Lock()
		room := len(p.open) < window
		if room {
			p.open[entry.ResultID] = true
		}
		since := began
		if p.heard.After(since) {
			since = p.heard
		}
		p.mutex.Unlock()
		left := p.ackTimeout() - time.Since(since)
		if room || left <= 0 {
			return room
		}
		p.wait(ctx, left)
	}
	return false
}

// stall notes that a row led to nothing. What is left of it comes when its time
// has come, or the MES is back.
func (p *publisher) stall(isNew bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.repeated = true
	if isNew {
		return
	}
	p.rowPause = min(max(2*p.rowPause, p.ackTimeout()), longestWait)
	p.noRowBefore = time.Now().Add(p.rowPause)
}

// missAnswer notes that an entry's acknowledgement did not come in time.
func (p *publisher) missAnswer(entry *ledger.Entry) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.repeated = true
	if entry.Tries < parkedAfter || p.told {
		return
	}
	p.told = true
	p.connection.client.options.Log.Warn("the MES does not acknowledge verdicts; they are kept and sent again",
		"source", p.source, "result_id", entry.ResultID, "tries", entry.Tries, "topic", ackOf(p.source))
}

// hear notes that the MES acknowledged a verdict.
func (p *publisher) hear(resultID string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	now := time.Now()
	if p.repeated && now.Sub(p.heard) >= p.ackTimeout() {
		p.returned = true
	}
	if p.told {
		p.connection.client.options.Log.Info("the MES acknowledges verdicts again", "source", p.source)
	}
	p.heard, p.repeated, p.told = now, false, false
	delete(p.open, resultID)
	p.look()
}

// isBack says once that the MES, which had been silent, is back.
func (p *publisher) isBack() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !p.returned || time.Now().Before(p.noRowBefore) {
		return false
	}
	p.returned = false
	return true
}

// insist does something with the ledger until it succeeds; a full disk is no
// reason to leave the broker. It returns false when the connection ends first.
func (n *connection) insist(ctx context.Context, do func() error) bool {
	told := false
	for {
		err := do()
		if err == nil {
			return true
		}
		if errors.Is(err, ledger.ErrClosed) {
			return false
		}
		if !told {
			n.client.options.Log.Error("the outbox cannot be used; trying until it can", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(lookEvery):
		}
	}
}

// publishVerdict publishes a verdict. One whose record is damaged it leaves out,
// and says so: the others are not to wait for it. An error is the connection's.
func (n *connection) publishVerdict(ctx context.Context, entry *ledger.Entry) (published bool, err error) {
	event, err := verdict.Event(entry.Source, entry.Record)
	if err != nil {
		if n.client.damaged.add(entry.ResultID) {
			n.client.options.Log.Error("a verdict cannot be sent: its record is damaged; it stays in the ledger, see 'gladd ledger verify'",
				"source", entry.Source, "sequence", entry.Sequence, "result_id", entry.ResultID, "error", err)
		}
		return false, nil
	}
	if err := wait(ctx, n.mqtt.Publish(ofSource(entry.Source), qos, false, event), ackTimeout); err != nil {
		return false, fmt.Errorf("publish verdict %s: %w", entry.ResultID, err)
	}
	return true, nil
}
