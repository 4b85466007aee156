package ledger

import (
	"database/sql"
	"errors"
	"fmt"

	"gladd/daemon/internal/verdict"
)

// Rules say what a trigger counts as.
type Rules struct {
	Attempts int        // limit for the same part, 0: none
	Part     *PartRules // nil: the view stands for itself
}

// place gives a view its attempt and its part; or it refuses it.
func (l *Ledger) place(tx transaction, source string, draft *verdict.Record, rules Rules) (part joined, refusal *verdict.Refusal, err error) {
	draft.Attempt = 1
	if key, has := keyOf(source, draft); has {
		if refusal, err = tx.limitAttempts(key, rules.Attempts, "stations.attempts"); err != nil || refusal != nil {
			return part, refusal, err
		}
		last, err := tx.lastAttempt(key)
		if err != nil {
			return part, nil, err
		}
		draft.Attempt = last.number + 1
	}
	if rules.Part == nil {
		return part, nil, nil
	}
	expected := len(rules.Part.Views)
	draft.ViewsExpected = &expected
	return l.joinPart(tx, draft, rules.Part)
}

// attemptKey says which triggers are attempts at the same thing.
type attemptKey struct {
	source, kind string
	partID       string
	measurement  *string
	view         *string
	purposes     [2]verdict.Purpose // of the group; the same twice for a group of one
}

// keyOf is a record's key; a part that has no id has none.
func keyOf(source string, record *verdict.Record) (key attemptKey, has bool) {
	if record.Part.ID == nil {
		return attemptKey{}, false
	}
	group := record.Purpose.Group()
	return attemptKey{
		source: source, kind: record.Kind, partID: *record.Part.ID, measurement: record.MeasurementID, view: record.View,
		purposes: [2]verdict.Purpose{group[0], group[len(group)-1]},
	}, true
}

// ofKey finds the triggers of a key by their index; IS takes null for a value.
const ofKey = `triggers.source = ?1 AND triggers.part_id = ?2 AND triggers.measurement_id IS ?3 AND triggers.view IS ?4
	AND triggers.kind = ?5 AND triggers.purpose IN (?6, ?7)`

func (k attemptKey) arguments(more ...any) []any {
	return append([]any{k.source, k.partID, k.measurement, k.view, k.kind, k.purposes[0], k.purposes[1]}, more...)
}

// attempt is one of the triggers of a key; the zero value: there is none.
type attempt struct {
	triggerID string
	number    int
	finished  bool
}

// lastAttempt is the latest of a key.
func (tx transaction) lastAttempt(key attemptKey) (last attempt, err error) {
	err = tx.row(`SELECT trigger_id, attempt, finished FROM triggers WHERE `+ofKey+` ORDER BY attempt DESC LIMIT 1`,
		key.arguments()...).Scan(&last.triggerID, &last.number, &last.finished)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return last, err
}

// limitAttempts refuses an attempt beyond a limit, 0: none; nil: it may be.
// What failed without a result does not count, or a dead camera would use the
// attempts up. Where names the limit.
func (tx transaction) limitAttempts(key attemptKey, limit int, where string) (*verdict.Refusal, error) {
	if limit == 0 || !key.purposes[0].IsProduction() {
		return nil, nil
	}
	var used int
	if err := tx.row(`SELECT count(*) FROM (SELECT 1 FROM triggers LEFT JOIN results USING (trigger_id) WHERE `+ofKey+`
		AND (triggers.finished = 0 OR results.record ->> '$.result_state' = ?8) LIMIT ?9)`,
		key.arguments(verdict.Completed, limit)...).Scan(&used); err != nil || used < limit {
		return nil, err
	}
	what := fmt.Sprintf("part %q", key.partID)
	if key.measurement != nil {
		what += fmt.Sprintf(", measurement %q", *key.measurement)
	}
	if key.view != nil {
		what += fmt.Sprintf(", view %q", *key.view)
	}
	return &verdict.Refusal{Code: verdict.RefusedAttempts, Detail: fmt.Sprintf(
		"%s: %d attempts are done or under way, and %s allows %d; take the part out, or give the measurement an id of its own", what, used, where, limit)}, nil
}

// previousResult is the result of the attempt before one; nil: there is none,
// or it is no longer kept.
func (tx transaction) previousResult(source string, record *verdict.Record) (*string, error) {
	key, has := keyOf(source, record)
	if !has || record.Attempt <= 1 {
		return nil, nil
	}
	var resultID string
	err := tx.row(`SELECT result_id FROM triggers JOIN results USING (trigger_id) WHERE `+ofKey+` AND triggers.attempt = ?8`,
		key.arguments(record.Attempt-1)...).Scan(&resultID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &resultID, err
}
