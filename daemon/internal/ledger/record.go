package ledger

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"gladd/daemon/internal/verdict"
)

// Begin records an accepted trigger: the draft of its record, its command id
// and the reply, together. The draft must have its trigger id. If the command
// was answered before, the first reply is returned and nothing is recorded.
func (l *Ledger) Begin(source string, draft *verdict.Record) (reply verdict.Reply, repeated bool, err error) {
	return l.BeginView(source, draft, Rules{})
}

// BeginView is Begin by rules. It gives the draft its number among the attempts
// at the same part, and its part of several views. A trigger beyond the limit
// of attempts is refused here, and the refusal recorded: of two that come at
// once only one may be the last.
func (l *Ledger) BeginView(source string, draft *verdict.Record, rules Rules) (reply verdict.Reply, repeated bool, err error) {
	var part joined
	err = l.commit(func(tx transaction) error {
		first, err := firstReply(tx, source, verdict.VerbStart, draft.CommandID)
		if repeated = first != nil; repeated || err != nil {
			if repeated {
				reply = *first
			}
			return err
		}
		var refusal *verdict.Refusal
		if part, refusal, err = l.place(tx, source, draft, rules); err != nil {
			return err
		}
		if refusal != nil {
			reply = verdict.Reply{Verb: verdict.VerbStart, CommandID: draft.CommandID, Reason: refusal}
			return firstError(
				func() error { return keepReply(tx, source, reply) },
				func() error { return tx.count(source, "refusal", string(refusal.Code), 1) },
			)
		}
		reply = verdict.Reply{Verb: verdict.VerbStart, CommandID: draft.CommandID, TriggerID: &draft.TriggerID, Accepted: true}
		return firstError(
			func() error { return keepReply(tx, source, reply) },
			func() error { return insertTrigger(tx, source, draft, part.trigger()) },
		)
	})
	l.joinedPart(part, err == nil)
	return reply, repeated, err
}

func insertTrigger(tx transaction, source string, draft *verdict.Record, part *string) error {
	encoded, err := verdict.JSON(draft)
	if err != nil {
		return err
	}
	return firstError(
		func() error {
			return tx.exec(`INSERT INTO triggers (trigger_id, source, accepted, draft, kind, part_id, measurement_id, view, purpose, attempt, part_trigger)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
				draft.TriggerID, source, draft.Times.Triggered.UnixMilli(), string(encoded),
				draft.Kind, draft.Part.ID, draft.MeasurementID, draft.View, draft.Purpose, draft.Attempt, part)
		},
		func() error { return tx.countOf(source, draft.Purpose, "trigger", "accepted", 1) },
	)
}

// Refuse counts a refused trigger and keeps the reply, if the command had an
// id. If the command was answered before, that reply is returned. What cannot
// be written is counted once it can be.
func (l *Ledger) Refuse(source string, reply verdict.Reply) (verdict.Reply, error) {
	err := l.commit(func(tx transaction) error {
		first, err := answer(tx, source, reply)
		if err != nil {
			return err
		}
		if first != nil {
			reply = *first
			return nil
		}
		return tx.count(source, "refusal", string(reply.Reason.Code), 1)
	})
	if err != nil {
		l.refusals.add(source, reply.Reason.Code)
		return reply, err
	}
	l.flushRefusals()
	return reply, nil
}

// answer keeps the reply to a command with an id. It returns the first reply,
// if there was one before.
func answer(tx transaction, source string, reply verdict.Reply) (first *verdict.Reply, err error) {
	if first, err = firstReply(tx, source, reply.Verb, reply.CommandID); err != nil || first != nil {
		return first, err
	}
	return nil, keepReply(tx, source, reply)
}

// firstReply is the reply that a command had before; nil: none, or it has no id.
func firstReply(tx transaction, source string, verb verdict.Verb, commandID *string) (first *verdict.Reply, err error) {
	if commandID == nil {
		return nil, nil
	}
	return scanReply(tx.row(selectReply, source, *commandID), verb, *commandID)
}

const selectReply = `SELECT reply, verb FROM commands WHERE source = ? AND command_id = ?`

// scanReply reads the first reply to an id. Another command with the same id is not
// that one repeated: it must not hear that it was done.
func scanReply(row *sql.Row, verb verdict.Verb, commandID string) (first *verdict.Reply, err error) {
	var earlier []byte
	var of verdict.Verb // empty for replies of earlier versions
	switch err := row.Scan(&earlier, &of); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if of != "" && verb != "" && of != verb {
		return &verdict.Reply{Verb: verb, CommandID: &commandID, Reason: &verdict.Refusal{
			Code: verdict.RefusedInvalid, Detail: fmt.Sprintf("command_id: expected an id of its own, found %q, which a command %s had before", commandID, of),
		}}, nil
	}
	return first, json.Unmarshal(earlier, &first)
}

func keepReply(tx transaction, source string, reply verdict.Reply) error {
	if reply.CommandID == nil {
		return nil
	}
	encoded, err := verdict.JSON(reply)
	if err != nil {
		return err
	}
	return tx.exec(`INSERT INTO commands (source, command_id, replied, reply, verb) VALUES (?, ?, ?, ?, ?)`,
		source, *reply.CommandID, time.Now().UnixMilli(), string(encoded), reply.Verb)
}

// Answered returns the first reply to a command; nil: there was none.
func (l *Ledger) Answered(source string, verb verdict.Verb, commandID string) (reply *verdict.Reply, err error) {
	reply, err = scanReply(l.reads.QueryRow(selectReply, source, commandID), verb, commandID)
	if err != nil {
		return nil, fmt.Errorf("ledger: reply to %s: %w", commandID, err)
	}
	return reply, nil
}

// Finish records the end of a trigger: its terminal record with the sequence
// that it is given here, and its place in the outbox, together; and that of its
// part, where it was the last view. A record that becomes durable only after
// the deadline becomes Undefined, reason deadline, whatever it was; a zero
// deadline never passes. An image that was stored is noted with it. After an
// error Finish may be called again with the record.
func (l *Ledger) Finish(source string, record *verdict.Record, deadline time.Time, image *StoredImage) error {
	late := func() bool { return !deadline.IsZero() && time.Now().After(deadline) }
	record.LedgerID = l.id
	record.ResultID = ulid.Make().String()

	// Nobody may see the record before it is known whether its commit was in
	// time.
	// Where an earlier call left it so, it was written: this one may end before it
	// can find that.
	written, part := l.unsettled.add(source, record.TriggerID), ""
	err := l.commit(func(tx transaction) (err error) {
		if late() {
			becomeLate(record)
		}
		earlier, err := findResult(tx, record.TriggerID)
		if err != nil {
			return err
		}
		written = earlier != nil
		if part, err = tx.complete(source, record); err != nil {
			return err
		}
		if earlier != nil {
			record.ResultID, record.Sequence = earlier.ResultID, earlier.Sequence
			return l.amendView(tx, source, earlier, record, part)
		}
		return firstError(
			func() error { return insertResult(tx, source, record) },
			func() error { return insertImage(tx, record, image) },
			func() error { part, err = l.completePart(tx, part, record); return err },
		)
	})
	if err != nil {
		if !written {
			l.settle(record.TriggerID, part)
			l.tell(source) // of those before it, which waited for this one
		}
		return err
	}
	was := *record
	if late() {
		becomeLate(record)
	}
	if record.Evaluation != was.Evaluation || part != "" && l.parts.get(part).passed() {
		if err := l.commit(func(tx transaction) error { return l.amendView(tx, source, &was, record, part) }); err != nil {
			// It stays unsettled: a late OK must not be seen.
			return fmt.Errorf("%w; the record was written after its deadline and reads %s", err, was.Evaluation)
		}
	}
	l.settle(record.TriggerID, part)
	l.tell(source)
	return nil
}

// settle says that a record, and what it did to its part, are what they will be.
func (l *Ledger) settle(triggerID, part string) {
	l.unsettled.remove(triggerID)
	if part != "" {
		l.settlePart(part, triggerID)
	}
}

// complete fills in what the trigger knows of a record, and returns its part;
// empty: it has none.
func (tx transaction) complete(source string, record *verdict.Record) (part string, err error) {
	var named sql.NullString
	if err := tx.row(`SELECT attempt, part_trigger FROM triggers WHERE trigger_id = ?`, record.TriggerID).Scan(&record.Attempt, &named); err != nil {
		return "", fmt.Errorf("trigger %s: %w", record.TriggerID, err)
	}
	record.PreviousResultID, err = tx.previousResult(source, record)
	return named.String, err
}

func findResult(tx transaction, triggerID string) (earlier *verdict.Record, err error) {
	var encoded []byte
	switch err := tx.row(`SELECT record FROM results WHERE trigger_id = ?`, triggerID).Scan(&encoded); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return earlier, json.Unmarshal(encoded, &earlier)
}

// becomeLate turns a record into one that missed its deadline.
func becomeLate(record *verdict.Record) {
	if record.Evaluation == verdict.Undefined {
		return
	}
	record.Reason = &verdict.Reason{
		Code:   verdict.ReasonDeadline,
		Detail: fmt.Sprintf("the result, %s, was recorded after the deadline", record.Evaluation),
	}
	record.Evaluation = verdict.Undefined
	record.ResultState = verdict.StateOf(record.Evaluation, record.Reason)
}

func insertResult(tx transaction, source string, record *verdict.Record) error {
	if err := tx.row(`INSERT INTO sequences (source, last) VALUES (?, 1) ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last`,
		source).Scan(&record.Sequence); err != nil {
		return err
	}
	encoded, err := verdict.JSON(record)
	if err != nil {
		return err
	}
	finished := record.Times.Finished.UnixMilli()
	return firstError(
		func() error {
			return tx.exec(`INSERT INTO results (result_id, trigger_id, source, sequence, evaluation, finished, record, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
				record.ResultID, record.TriggerID, source, record.Sequence, record.Evaluation, finished, string(encoded), digestOf(encoded))
		},
		func() error {
			return tx.exec(`UPDATE triggers SET finished = 1, draft = '' WHERE trigger_id = ?`, record.TriggerID)
		},
		func() error {
			return tx.exec(`INSERT INTO outbox (source, sequence, result_id, entered) VALUES (?, ?, ?, ?)`,
				source, record.Sequence, record.ResultID, time.Now().UnixMilli())
		},
		func() error { return tx.countOutcome(source, record, 1) },
	)
}

// amendView replaces a record that was committed too late and that nobody has
// seen, and that of its part, if there is one.
func (l *Ledger) amendView(tx transaction, source string, was, record *verdict.Record, part string) error {
	if err := amend(tx, source, was, record); err != nil || part == "" {
		return err
	}
	return l.amendPart(tx, part, record, l.parts.get(part).passed())
}

func amend(tx transaction, source string, was, record *verdict.Record) error {
	encoded, err := verdict.JSON(record)
	if err != nil {
		return err
	}
	return firstError(
		func() error {
			return tx.exec(`UPDATE results SET evaluation = ?, finished = ?, record = ?, digest = ? WHERE result_id = ?`,
				record.Evaluation, record.Times.Finished.UnixMilli(), string(encoded), digestOf(encoded), record.ResultID)
		},
		func() error { return tx.countOutcome(source, was, -1) },
		func() error { return tx.countOutcome(source, record, 1) },
	)
}

// digestOf is what shows that a record was not changed: its hex SHA-256.
func digestOf(record []byte) string {
	sum := sha256.Sum256(record)
	return hex.EncodeToString(sum[:])
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Recover ends every trigger that an earlier run of the daemon left without a
// record: Undefined, reason restarted, with its picture if that was stored. It
// returns their number. Parts of several views stay open until their views are
// done or their deadline passes.
func (l *Ledger) Recover(now time.Time, images *Images) (recovered int, err error) {
	type unfinished struct {
		source string
		draft  []byte
	}
	var all []unfinished
	err = each(l.background, l.reads, func(rows *sql.Rows) error {
		var one unfinished
		err := rows.Scan(&one.source, &one.draft)
		all = append(all, one)
		return err
	}, `SELECT source, draft FROM triggers WHERE finished = 0 AND kind <> ? ORDER BY source, rowid`, verdict.KindPart)
	if err != nil {
		return 0, fmt.Errorf("ledger: unfinished triggers: %w", err)
	}
	for _, one := range all {
		record := &verdict.Record{}
		if err := json.Unmarshal(one.draft, record); err != nil {
			return recovered, fmt.Errorf("ledger: draft of an unfinished trigger: %w", err)
		}
		record.Evaluation = verdict.Undefined
		record.Reason = &verdict.Reason{Code: verdict.ReasonRestarted, Detail: "gladd ended before the inspection did"}
		record.ResultState = verdict.StateOf(record.Evaluation, record.Reason)
		record.Times.Finished = verdict.Time{Time: now}
		// The wall clock, for want of a better one; it may have been set.
		record.LatencyMS = max(0, verdict.Milliseconds(now.Sub(record.Times.Triggered.Time)))
		var stored *StoredImage
		if stored, record.Image, err = images.recover(one.source, record); err != nil {
			return recovered, err
		}
		if err := l.Finish(one.source, record, time.Time{}, stored); err != nil {
			return recovered, err
		}
		recovered++
	}
	return recovered, nil
}

// Record returns a trigger's terminal record as JSON; nil: it has none yet.
func (l *Ledger) Record(triggerID string) ([]byte, error) {
	var record []byte
	settled, err := l.unsettled.read(func(_, other string) bool { return other == triggerID }, func() error {
		record = nil
		err := l.reads.QueryRow(`SELECT record FROM results WHERE trigger_id = ?`, triggerID).Scan(&record)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: record of %s: %w", triggerID, err)
	}
	if !settled {
		return nil, nil
	}
	return record, nil
}
