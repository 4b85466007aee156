package ledger

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"gladd/daemon/internal/verdict"
)

// sequence follows the results of one source.
type sequence struct {
	VerifiedSource
	gaps bool
	// waiting says that all results so far are still in the outbox: age may have
	// removed others between them.
	waiting bool
	counts  map[counterName]int64
	// unread says that a record could not be counted; apart, that some are
	// counted apart from production; earlier, that some are an earlier version's,
	// which counted all together.
	unread, apart, earlier bool
}

// counterName says what a counter counts.
type counterName struct{ kind, name string }

// records verifies each record for itself, and that each source's are without a
// gap.
func (v *verification) records(ctx context.Context, ledger tables) error {
	var total int
	if err := ledger.row(ctx, `SELECT count(*) FROM results`).Scan(&total); err != nil {
		return err
	}
	v.Begin("records", total)
	// What the MES does not have is kept beyond its age. Of the others, the
	// oldest says how far back age has removed nothing.
	var oldest sql.NullInt64
	if err := ledger.row(ctx, `SELECT min(finished) FROM results WHERE result_id NOT IN (SELECT result_id FROM outbox)`).Scan(&oldest); err != nil {
		return err
	}
	sources := map[string]*sequence{}
	if err := ledger.eachStored(ctx, func(stored *Stored) error {
		defer v.Step()
		source := sources[stored.Source]
		if source == nil {
			source = &sequence{VerifiedSource: VerifiedSource{Source: stored.Source, First: stored.Sequence}, waiting: true, counts: map[counterName]int64{}}
			sources[stored.Source] = source
		}
		v.follows(source, stored)
		record := v.record(stored)
		if record == nil {
			source.unread = true
			return nil
		}
		source.count(record, stored.Digest)
		if record.Kind == verdict.KindPart {
			return v.part(ctx, ledger, stored, record, oldest)
		}
		return nil
	}, `1 ORDER BY results.source, results.sequence`); err != nil {
		return err
	}
	if err := v.lasts(ctx, ledger, sources); err != nil {
		return err
	}
	for _, source := range slices.Sorted(maps.Keys(sources)) {
		v.found.Sources = append(v.found.Sources, sources[source].VerifiedSource)
		if err := v.counters(ctx, ledger, sources[source]); err != nil {
			return err
		}
	}
	return nil
}

// follows verifies that a result comes directly after the one before.
func (v *verification) follows(source *sequence, stored *Stored) {
	switch expected := source.Last + 1; {
	case source.Results == 0:
	case stored.Sequence < expected:
		v.problem("%s: sequence %d was given twice", source.Source, stored.Sequence)
		source.gaps = true
	case stored.Sequence > expected && source.waiting:
		source.First = stored.Sequence
	case stored.Sequence > expected:
		v.missing(source, expected, stored.Sequence-1)
	}
	source.Results++
	source.Last = stored.Sequence
	source.waiting = source.waiting && stored.Delivery.State != Sent
}

func (v *verification) missing(source *sequence, first, last int64) {
	source.gaps = true
	if first == last {
		v.problem("%s: sequence %d is missing", source.Source, first)
		return
	}
	v.problem("%s: sequences %d to %d are missing", source.Source, first, last)
}

// lasts verifies that the last results are those whose sequences were the last
// given. A source may have none any more.
func (v *verification) lasts(ctx context.Context, ledger tables, sources map[string]*sequence) error {
	given := map[string]int64{}
	if err := ledger.each(ctx, func(rows *sql.Rows) error {
		var source string
		var last int64
		err := rows.Scan(&source, &last)
		given[source] = last
		return err
	}, `SELECT source, last FROM sequences`); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		source, last := sources[name], given[name]
		switch {
		case source.Last < last:
			v.missing(source, source.Last+1, last)
		case source.Last > last:
			v.problem("%s: sequence %d was recorded, but the last one given is %d", name, source.Last, last)
		}
	}
	return nil
}

// record verifies a record for itself; nil: it cannot be read.
func (v *verification) record(stored *Stored) *verdict.Record {
	name := named(stored.ResultID, stored.Source, stored.Sequence)
	if stored.Digest == "" {
		v.found.Undigested++
	} else if sum := sha256.Sum256(stored.JSON); hex.EncodeToString(sum[:]) != stored.Digest {
		v.problem("%s: the record was changed: expected SHA-256 %s, found %x", name, stored.Digest, sum)
	}
	record := &verdict.Record{}
	if err := json.Unmarshal(stored.JSON, record); err != nil {
		v.problem("%s: the record cannot be read: %v", name, err)
		return nil
	}
	for _, each := range []struct {
		key           string
		column, found any
	}{
		{"result_id", stored.ResultID, record.ResultID},
		{"trigger_id", stored.TriggerID, record.TriggerID},
		{"ledger_id", v.found.LedgerID, record.LedgerID},
		{"sequence", stored.Sequence, record.Sequence},
		{"evaluation", stored.Evaluation, record.Evaluation},
		{"finished", stored.Finished.UnixMilli(), record.Times.Finished.UnixMilli()},
	} {
		if each.column != each.found {
			v.problem("%s: %s: the ledger has %v, the record %v", name, each.key, each.column, each.found)
		}
	}
	switch {
	case record.Reason == nil && record.Evaluation != verdict.OK:
		v.problem("%s: %s without a reason", name, record.Evaluation)
	case record.Reason != nil && record.Evaluation == verdict.OK:
		v.problem("%s: OK with the reason %s", name, record.Reason.Code)
	}
	return record
}

// weights order evaluations by how much each weighs against others.
var weights = []verdict.Evaluation{verdict.OK, verdict.NotDecidable, verdict.Undefined, verdict.NotOK}

// part verifies that a part is what its views make of it.
func (v *verification) part(ctx context.Context, ledger tables, stored *Stored, record *verdict.Record, oldest sql.NullInt64) error {
	name := named(stored.ResultID, stored.Source, stored.Sequence)
	combined := verdict.OK
	weigh := func(evaluation verdict.Evaluation) {
		if slices.Index(weights, evaluation) > slices.Index(weights, combined) {
			combined = evaluation
		}
	}
	if record.ViewsExpected == nil || len(record.SourceResultIDs) < *record.ViewsExpected {
		weigh(verdict.Undefined)
	}
	for _, resultID := range record.SourceResultIDs {
		var evaluation verdict.Evaluation
		err := ledger.row(ctx, `SELECT evaluation FROM results WHERE result_id = ?`, resultID).Scan(&evaluation)
		if errors.Is(err, sql.ErrNoRows) {
			// Those of a part that began before the oldest may be gone by age.
			if oldest.Valid && record.Times.Triggered.Before(time.UnixMilli(oldest.Int64)) {
				return nil
			}
			v.problem("%s: its view's result %s is not in the ledger", name, resultID)
			return nil
		}
		if err != nil {
			return err
		}
		weigh(evaluation)
	}
	if record.Evaluation == combined || record.Evaluation == verdict.Undefined && record.Reason != nil && ofItsOwn[record.Reason.Code] {
		return nil
	}
	v.problem("%s: its views make it %s, the record says %s", name, combined, record.Evaluation)
	return nil
}

// ofItsOwn are the reasons for which a part can be Undefined whatever its views
// are.
var ofItsOwn = map[verdict.ReasonCode]bool{
	verdict.ReasonDeadline: true, verdict.ReasonRestarted: true, verdict.ReasonShutdown: true, verdict.ReasonAborted: true, verdict.ReasonInternal: true,
}

// count counts a record as the ledger does.
func (s *sequence) count(record *verdict.Record, digest string) {
	kind := apart(record.Purpose)
	s.apart = s.apart || kind != ""
	s.earlier = s.earlier || digest == ""
	s.counts[counterName{kind + "trigger", "accepted"}]++
	s.counts[counterName{kind + "evaluation", string(record.Evaluation)}]++
	if record.Reason != nil && kind == "" {
		s.counts[counterName{"reason", string(record.Reason.Code)}]++
	}
}

// apart begins the kinds of counters of purposes that are counted apart from
// production.
func apart(purpose verdict.Purpose) string {
	if purpose.IsProduction() {
		return ""
	}
	return string(purpose) + "/"
}

// counters verifies that a source's counters count its results, where none was
// removed.
func (v *verification) counters(ctx context.Context, ledger tables, source *sequence) error {
	removed := source.First > 1 || int64(source.Results) != source.Last
	if removed || source.gaps || source.unread || source.apart && source.earlier {
		return nil
	}
	if err := ledger.each(ctx, func(rows *sql.Rows) error {
		var encoded []byte
		var draft struct {
			Purpose verdict.Purpose `json:"purpose"`
		}
		if err := rows.Scan(&encoded); err != nil {
			return err
		}
		if json.Unmarshal(encoded, &draft) != nil {
			source.unread = true // told with the triggers
		}
		source.counts[counterName{apart(draft.Purpose) + "trigger", "accepted"}]++
		return nil
	}, `SELECT CAST(draft AS BLOB) FROM triggers WHERE source = ? AND finished = 0`, source.Source); err != nil || source.unread {
		return err
	}
	counters := map[counterName]int64{}
	if err := ledger.each(ctx, func(rows *sql.Rows) error {
		var of counterName
		var count int64
		if err := rows.Scan(&of.kind, &of.name, &count); err != nil {
			return err
		}
		if of.kind != "refusal" && count != 0 {
			counters[of] = count
		}
		return nil
	}, `SELECT kind, name, count FROM counters WHERE source = ?`, source.Source); err != nil {
		return err
	}
	all := maps.Clone(counters)
	maps.Copy(all, source.counts)
	for _, each := range slices.SortedFunc(maps.Keys(all), func(a, b counterName) int {
		return slices.Compare([]string{a.kind, a.name}, []string{b.kind, b.name})
	}) {
		if counters[each] != source.counts[each] {
			v.problem("%s: the counter of %s %s is %d, the ledger holds %d", source.Source, each.kind, each.name, counters[each], source.counts[each])
		}
	}
	return nil
}
