package ledger

import (
	"database/sql"
	"encoding/json"
	"fmt"
)

// How verdicts are parked; see the table outbox.
const (
	parkedUnacknowledged = "unacknowledged"
	parkedRejected       = "rejected"
)

// Acknowledgement is what the MES says of a verdict.
type Acknowledgement struct {
	Source   string // whose topic it came on
	ResultID string
	Accepted bool   // otherwise rejected
	Reason   string // why
}

// Effect is what an acknowledgement did.
type Effect int

// The effects.
const (
	AckedBefore  Effect = iota // nothing: the result is not in the outbox, or was rejected before
	AckAccepted                // the verdict left the outbox
	AckRejected                // it is parked
	AckElsewhere               // nothing: it is another source's
)

// Acknowledge records what the MES says of verdicts, in one commit: those that it
// accepted leave the outbox, those that it rejected are parked in it. It returns
// what each of them did. A verdict may be acknowledged before it is noted that it
// was sent.
func (l *Ledger) Acknowledge(acks []Acknowledgement) ([]Effect, error) {
	// Most that do nothing are found here: they are not worth a commit.
	waiting, err := l.inOutbox(acks)
	if err != nil {
		return nil, err
	}
	effects := make([]Effect, len(acks))
	changes := false
	for i, ack := range acks {
		entry, there := waiting[ack.ResultID]
		switch {
		case !there:
			continue
		case entry.source != ack.Source:
			effects[i] = AckElsewhere
			continue
		case ack.Accepted:
			effects[i] = AckAccepted
			delete(waiting, ack.ResultID)
		case entry.parked == parkedRejected:
			continue
		default:
			effects[i] = AckRejected
			waiting[ack.ResultID] = outboxEntry{entry.source, parkedRejected}
		}
		changes = true
	}
	if !changes {
		return effects, nil
	}
	return effects, l.commit(func(tx transaction) error {
		for i, ack := range acks {
			var err error
			switch effects[i] {
			case AckAccepted:
				err = tx.exec(`DELETE FROM outbox WHERE result_id = ?`, ack.ResultID)
			case AckRejected:
				err = tx.exec(`UPDATE outbox SET parked = 'rejected', reason = ?, due = NULL WHERE result_id = ?`, ack.Reason, ack.ResultID)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// outboxEntry is what an acknowledgement meets.
type outboxEntry struct{ source, parked string }

// inOutbox looks for those results that are in the outbox.
func (l *Ledger) inOutbox(acks []Acknowledgement) (map[string]outboxEntry, error) {
	ids := make([]string, len(acks))
	for i, ack := range acks {
		ids[i] = ack.ResultID
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("ledger: acknowledgements: %w", err)
	}
	found := map[string]outboxEntry{}
	err = each(l.background, l.reads, func(rows *sql.Rows) error {
		var id string
		var entry outboxEntry
		err := rows.Scan(&id, &entry.source, &entry.parked)
		found[id] = entry
		return err
	}, `SELECT result_id, source, coalesce(parked, '') FROM outbox WHERE result_id IN (SELECT value FROM json_each(?))`, string(list))
	if err != nil {
		return nil, fmt.Errorf("ledger: acknowledgements: %w", err)
	}
	return found, nil
}
