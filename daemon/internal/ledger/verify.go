package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"

	"gladd/daemon/internal/verdict"
)

// VerifyOptions say how a ledger is verified.
type VerifyOptions struct {
	// Stopped says that no daemon is at work: a trigger without a record is a
	// problem, even if one has the ledger, or in a copy.
	Stopped bool
	// ImagesDir is the folder of pictures; empty: pictures are not verified.
	ImagesDir string
	// ReadPicture returns the SHA-256 of a picture's decoded pixels, in hex.
	ReadPicture func(path string) (string, error)
	// Problem is told of what must not be, Note of what may be.
	Problem, Note func(text string)
	// Begin and Step show how far it is.
	Begin func(doing string, total int)
	Step  func()
}

// Verified is what a ledger was found to hold.
type Verified struct {
	LedgerID string
	Version  int // of its tables
	Sources  []VerifiedSource
	// Undigested counts records of earlier versions, which have no digest.
	Undigested int
	// UnderWay counts the triggers without a record, OldestUnderWay is when the
	// first of them was accepted.
	UnderWay       int
	OldestUnderWay verdict.Time
	// OpenParts counts the parts whose views are still to come. They outlive a
	// daemon: the next one goes on with them.
	OpenParts int
	InUse     bool // by a daemon
	Copied    bool // it lies where no daemon used it: what was under way was so when it was copied
	Pictures  int
}

// VerifiedSource is what a source's results are.
type VerifiedSource struct {
	Source      string
	Results     int
	First, Last int64 // sequences; First is that after the last gap which age explains
}

// verification is one run of Verify.
type verification struct {
	VerifyOptions
	reader *Reader
	found  Verified
}

// Verify holds one state of the ledger against what must be true of it, and the
// pictures against what their records say. Its error says that it could not be
// done; problems are no error.
func (r *Reader) Verify(ctx context.Context, options VerifyOptions) (*Verified, error) {
	v := &verification{VerifyOptions: options, reader: r}
	v.found.Version = r.version
	err := v.tables(ctx)
	if err == nil && options.ImagesDir != "" {
		err = v.pictures(ctx)
	}
	if err != nil {
		return nil, r.failed(err)
	}
	return &v.found, nil
}

func (v *verification) problem(format string, arguments ...any) {
	v.Problem(fmt.Sprintf(format, arguments...))
}

// tables verifies what stands in the tables. A daemon that begins or ends
// meanwhile is at work.
func (v *verification) tables(ctx context.Context) error {
	before, err := v.usage()
	if err != nil {
		return err
	}
	return v.reader.snapshot(ctx, func(ledger tables) error {
		if err := ledger.row(ctx, `SELECT value FROM meta WHERE key = 'ledger_id'`).Scan(&v.found.LedgerID); errors.Is(err, sql.ErrNoRows) {
			v.problem("the ledger has no id")
		} else if err != nil {
			return v.unreadable("the ledger's id", err)
		}
		after, err := v.usage()
		if err != nil {
			return err
		}
		v.found.InUse = before == inUse || after == inUse
		v.found.Copied = before == copied && after == copied
		for _, check := range []struct {
			what string
			do   func(context.Context, tables) error
		}{
			{"SQLite's pages", v.pages},
			{"records", v.records},
			{"triggers", v.triggers},
			{"references", v.references},
		} {
			if err := v.unreadable(check.what, check.do(ctx, ledger)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (v *verification) usage() (usage, error) {
	if v.Stopped {
		return unused, nil
	}
	return v.reader.usage()
}

// unreadable makes a problem of the error of a damaged file.
func (v *verification) unreadable(what string, err error) error {
	if damage := (sqlite3.Error{}); errors.As(err, &damage) && (damage.Code == sqlite3.ErrCorrupt || damage.Code == sqlite3.ErrNotADB) {
		v.problem("%s could not all be read: %v", what, err)
		return nil
	}
	return err
}

// pages has SQLite verify its own structures.
func (v *verification) pages(ctx context.Context, ledger tables) error {
	return ledger.each(ctx, func(rows *sql.Rows) error {
		var text string
		if err := rows.Scan(&text); err != nil || text == "ok" {
			return err
		}
		v.problem("SQLite's integrity check: %s", text)
		return nil
	}, `SELECT integrity_check FROM pragma_integrity_check`)
}

// named is a result in the words of a problem.
func named(resultID, source string, sequence int64) string {
	return fmt.Sprintf("result %s (%s, sequence %d)", resultID, source, sequence)
}

// triggers verifies that each trigger has exactly one result, or is under way.
func (v *verification) triggers(ctx context.Context, ledger tables) error {
	if err := ledger.each(ctx, func(rows *sql.Rows) error {
		var triggerID, source, kind string
		var accepted int64
		var finished, results int
		var draft []byte
		if err := rows.Scan(&triggerID, &source, &kind, &accepted, &draft, &finished, &results); err != nil {
			return err
		}
		trigger := fmt.Sprintf("trigger %s of %s, accepted %s", triggerID, source, at(accepted))
		switch {
		case results > 1:
			v.problem("%s: it has %d results", trigger, results)
		case results == 1:
			v.problem("%s: it has a result, but counts as unfinished; the next start would make it Undefined", trigger)
		case finished != 0:
			v.problem("%s: its record is gone", trigger)
		case !json.Valid(draft):
			v.problem("%s: what was known at the trigger cannot be read; the next start cannot record it", trigger)
		case kind == verdict.KindPart:
			v.found.OpenParts++
		case v.found.InUse, v.found.Copied:
			if v.found.UnderWay == 0 || at(accepted).Before(v.found.OldestUnderWay.Time) {
				v.found.OldestUnderWay = at(accepted)
			}
			v.found.UnderWay++
		default:
			v.problem("%s: it has no record, and no daemon is at work; the next start records it as Undefined", trigger)
		}
		return nil
	}, `SELECT trigger_id, source, kind, accepted, CAST(draft AS BLOB), finished, results FROM (
		SELECT triggers.rowid AS row, *, (SELECT count(*) FROM results WHERE results.trigger_id = triggers.trigger_id) AS results FROM triggers)
		WHERE results <> 1 OR finished = 0 ORDER BY row`); err != nil {
		return err
	}
	return ledger.each(ctx, func(rows *sql.Rows) error {
		var resultID, source, triggerID string
		var sequence int64
		var triggerSource sql.NullString
		if err := rows.Scan(&resultID, &source, &sequence, &triggerID, &triggerSource); err != nil {
			return err
		}
		if !triggerSource.Valid {
			v.problem("%s: its trigger %s is not in the ledger", named(resultID, source, sequence), triggerID)
		} else {
			v.problem("%s: its trigger %s is one of %s", named(resultID, source, sequence), triggerID, triggerSource.String)
		}
		return nil
	}, `SELECT results.result_id, results.source, results.sequence, results.trigger_id, triggers.source FROM results LEFT JOIN triggers USING (trigger_id)
		WHERE triggers.source IS NOT results.source ORDER BY results.rowid`)
}

// references verifies what names a result.
func (v *verification) references(ctx context.Context, ledger tables) error {
	if err := ledger.each(ctx, func(rows *sql.Rows) error {
		var source, resultID string
		var sequence int64
		var resultSource sql.NullString
		var resultSequence sql.NullInt64
		if err := rows.Scan(&source, &sequence, &resultID, &resultSource, &resultSequence); err != nil {
			return err
		}
		if !resultSource.Valid {
			v.problem("outbox: %s is not in the ledger", named(resultID, source, sequence))
		} else {
			v.problem("outbox: %s is %s, sequence %d", named(resultID, source, sequence), resultSource.String, resultSequence.Int64)
		}
		return nil
	}, `SELECT outbox.source, outbox.sequence, outbox.result_id, results.source, results.sequence FROM outbox LEFT JOIN results USING (result_id)
		WHERE results.source IS NOT outbox.source OR results.sequence IS NOT outbox.sequence ORDER BY outbox.source, outbox.sequence`); err != nil {
		return err
	}
	return ledger.each(ctx, func(rows *sql.Rows) error {
		var reviewID, resultID string
		if err := rows.Scan(&reviewID, &resultID); err != nil {
			return err
		}
		v.problem("review %s: its result %s is not in the ledger", reviewID, resultID)
		return nil
	}, `SELECT review_id, reviews.result_id FROM reviews LEFT JOIN results USING (result_id) WHERE results.result_id IS NULL ORDER BY reviews.rowid`)
}
