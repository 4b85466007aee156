package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"gladd/daemon/internal/verdict"
)

// Unfinished is a trigger that has no record.
type Unfinished struct {
	Source    string
	TriggerID string
	Accepted  verdict.Time
	JSON      []byte // its record, as far as it was known at the trigger
}

// Draft reads the record as far as it was known at the trigger.
func (u *Unfinished) Draft() (*verdict.Record, error) {
	draft := &verdict.Record{}
	if err := json.Unmarshal(u.JSON, draft); err != nil {
		return nil, fmt.Errorf("what was known at trigger %s of %s cannot be read: %w", u.TriggerID, u.Source, err)
	}
	return draft, nil
}

// EachUnfinished calls a function with the triggers that have no record yet, in
// the order in which they were accepted. Of the query, times, which are those of
// the triggers, station, part and Last count.
func (r *Reader) EachUnfinished(ctx context.Context, query Query, found func(*Unfinished) error) error {
	wanted := conditions{}
	wanted.add("finished = 0")
	wanted.addRange(&query, "accepted", "source")
	if query.Part != "" {
		wanted.add("CASE WHEN json_valid(draft) THEN draft ->> '$.part.id' END = ?", query.Part)
	}
	limit := -1 // none
	if query.Last > 0 {
		limit = query.Last
	}
	var all []*Unfinished // as many as wait in queues
	err := r.newest().each(ctx, func(rows *sql.Rows) error {
		one := &Unfinished{}
		all = append(all, one)
		return one.scan(rows.Scan)
	}, `SELECT * FROM (SELECT source, trigger_id, accepted, CAST(draft AS BLOB), rowid AS row FROM triggers
		WHERE `+wanted.where()+` ORDER BY rowid DESC LIMIT ?) ORDER BY row`, append(wanted.arguments, limit)...)
	if err != nil {
		return r.failed(err)
	}
	for _, one := range all {
		if err := found(one); err != nil {
			return err
		}
	}
	return nil
}

func (u *Unfinished) scan(scan func(...any) error) error {
	var accepted, row int64
	if err := scan(&u.Source, &u.TriggerID, &accepted, &u.JSON, &row); err != nil {
		return err
	}
	u.Accepted = at(accepted)
	return nil
}

// Story is all that the ledger holds of one trigger.
type Story struct {
	Unfinished // its JSON is empty where there is a result
	// Result is nil where there is none, or none any more.
	Result *Stored
	// ImageBytes is the size of the result's picture.
	ImageBytes int64
	Reviews    []Review
	// Reply is the first reply to the command, as JSON; nil: the command had no
	// id, or it was too long ago.
	Reply []byte
	// Views are the results of a part's views, in the order in which they were
	// committed.
	Views []*Stored
	// Part is the result of the part that this is a view of; nil: of none.
	Part *Stored
}

// Review is what somebody said of a result.
type Review struct {
	ReviewID string
	Reviewed verdict.Time
	JSON     []byte
}

// Stories calls a function with all that there is of a result, a trigger, or all
// triggers of a part, by its id, in the order in which they were accepted. It
// returns their number.
func (r *Reader) Stories(ctx context.Context, id string, found func(*Story) error) (count int, err error) {
	triggers, err := r.triggersOf(ctx, id)
	if err != nil {
		return 0, r.failed(err)
	}
	for _, trigger := range triggers {
		var story *Story
		err := r.snapshot(ctx, func(ledger tables) (err error) {
			story, err = readStory(ctx, ledger, trigger)
			return err
		})
		if errors.Is(err, sql.ErrNoRows) {
			continue // it was removed by age meanwhile
		}
		if err != nil {
			return count, r.failed(err)
		}
		count++
		if err := found(story); err != nil {
			return count, err
		}
	}
	return count, nil
}

// triggersOf finds the rows of triggers.
func (r *Reader) triggersOf(ctx context.Context, id string) (rows []int64, err error) {
	for _, query := range []string{
		`SELECT rowid FROM triggers WHERE trigger_id = ?1 OR trigger_id IN (SELECT trigger_id FROM results WHERE result_id = ?1)`,
		`SELECT rowid FROM triggers WHERE ` + partTriggers + ` ORDER BY rowid`,
	} {
		if err := r.newest().each(ctx, func(found *sql.Rows) error {
			var row int64
			err := found.Scan(&row)
			rows = append(rows, row)
			return err
		}, query, id); err != nil || len(rows) > 0 {
			return rows, err
		}
	}
	return nil, nil
}

func readStory(ctx context.Context, ledger tables, trigger int64) (*Story, error) {
	story := &Story{}
	if err := story.scan(ledger.row(ctx, `SELECT source, trigger_id, accepted, CAST(draft AS BLOB), rowid FROM triggers WHERE rowid = ?`, trigger).Scan); err != nil {
		return nil, err
	}
	if err := ledger.eachStored(ctx, func(stored *Stored) error {
		story.Result = stored
		return nil
	}, `results.trigger_id = ?`, story.TriggerID); err != nil {
		return nil, err
	}
	if err := ledger.eachStored(ctx, func(stored *Stored) error {
		story.Views = append(story.Views, stored)
		return nil
	}, `results.trigger_id IN (SELECT trigger_id FROM triggers WHERE part_trigger = ?) ORDER BY results.rowid`, story.TriggerID); err != nil {
		return nil, err
	}
	if err := ledger.eachStored(ctx, func(stored *Stored) error {
		story.Part = stored
		return nil
	}, `results.trigger_id = (SELECT part_trigger FROM triggers WHERE trigger_id = ?)`, story.TriggerID); err != nil {
		return nil, err
	}
	record := story.JSON
	if story.Result != nil {
		record = story.Result.JSON
		if err := story.readResult(ctx, ledger); err != nil {
			return nil, err
		}
	}
	var head struct {
		CommandID *string `json:"command_id"`
	}
	if json.Unmarshal(record, &head) != nil || head.CommandID == nil {
		return story, nil //nolint:nilerr // who shows the record tells that it cannot be read
	}
	err := ledger.row(ctx, `SELECT CAST(reply AS BLOB) FROM commands WHERE source = ? AND command_id = ?`, story.Source, *head.CommandID).Scan(&story.Reply)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return story, err
}

// readResult reads what belongs to the result.
func (s *Story) readResult(ctx context.Context, ledger tables) error {
	if s.Result.Image != "" {
		if err := ledger.row(ctx, `SELECT bytes FROM images WHERE trigger_id = ?`, s.TriggerID).Scan(&s.ImageBytes); err != nil {
			return err
		}
	}
	return ledger.each(ctx, func(rows *sql.Rows) error {
		var review Review
		var reviewed int64
		if err := rows.Scan(&review.ReviewID, &reviewed, &review.JSON); err != nil {
			return err
		}
		review.Reviewed = at(reviewed)
		s.Reviews = append(s.Reviews, review)
		return nil
	}, `SELECT review_id, reviewed, CAST(review AS BLOB) FROM reviews WHERE result_id = ? ORDER BY reviewed, rowid`, s.Result.ResultID)
}
