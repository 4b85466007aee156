package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gladd/configs"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// ledgerCommand is 'gladd ledger'.
type ledgerCommand struct {
	List   ledgerListCommand   `cmd:"" help:"List results, the newest last, or triggers that have none."`
	Show   ledgerShowCommand   `cmd:"" help:"Show all that there is of a result or a part."`
	Export ledgerExportCommand `cmd:"" help:"Write results as CSV for spreadsheets, or as JSON lines."`
	Verify ledgerVerifyCommand `cmd:"" help:"Verify that nothing is missing and nothing was changed."`
}

// Help is shown below the commands.
func (ledgerCommand) Help() string {
	return `They only read: the daemon may run meanwhile.`
}

// ledgerFlags name a ledger.
type ledgerFlags struct {
	Config string `help:"The daemon's configuration: names ledger and pictures." placeholder:"FILE"`
	Ledger string `help:"A ledger without its configuration, such as a copy." placeholder:"FILE"`
}

// imagesFlags name a ledger's pictures.
type imagesFlags struct {
	Images string `help:"Folder of the ledger's pictures, if not the configuration's or 'images' beside it." placeholder:"DIR"`
}

// open opens the ledger. Images is where its pictures are.
func (f ledgerFlags) open(ctx context.Context, images string) (reader *ledger.Reader, imagesDir string, err error) {
	path := f.Ledger
	switch {
	case f.Config == "" && path == "":
		return nil, "", errors.New("which ledger? Name the daemon's configuration with --config, or a ledger with --ledger")
	case path == "":
		config, err := configs.Load(f.Config)
		if err != nil {
			return nil, "", err
		}
		path = config.Ledger.Path
		if images == "" {
			images = config.Ledger.Images.Dir
		}
	}
	if images == "" {
		images = filepath.Join(filepath.Dir(path), "images")
	}
	reader, err = ledger.OpenReader(ctx, path)
	return reader, images, err
}

// rangeFlags say which results are meant.
type rangeFlags struct {
	Since   string `help:"Results from a time on: 2026-11-24T08:00:00Z, 2026-11-24, or 8h for the last 8 hours." placeholder:"TIME"`
	Until   string `help:"Results before a time." placeholder:"TIME"`
	Station string `help:"Results of one station, or of one part of several views." placeholder:"NAME"`
}

// query asks for the results that are meant.
func (f rangeFlags) query(now time.Time) (ledger.Query, error) {
	query := ledger.Query{Station: f.Station}
	for _, each := range []struct {
		flag, text string
		time       *time.Time
	}{{"since", f.Since, &query.Since}, {"until", f.Until, &query.Until}} {
		if each.text == "" {
			continue
		}
		if ago, err := time.ParseDuration(each.text); err == nil {
			*each.time = now.Add(-ago)
			continue
		}
		var err error
		for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", time.DateOnly} {
			if *each.time, err = time.ParseInLocation(layout, each.text, time.Local); err == nil {
				break
			}
		}
		if err != nil {
			return query, fmt.Errorf("--%s: expected a time such as 2026-11-24T08:00:00Z or 2026-11-24, or an age such as 8h, found %q", each.flag, each.text)
		}
	}
	return query, nil
}

// writeTo writes to an output in large pieces. Where nobody reads any more, as
// with '| head', there is nothing left to do.
func writeTo(out io.Writer, write func(*bufio.Writer) error) error {
	buffered := bufio.NewWriterSize(out, 64<<10)
	err := write(buffered)
	switch unwritten := buffered.Flush(); { // its error is what write met, too
	case errors.Is(unwritten, syscall.EPIPE):
		return nil
	case unwritten != nil:
		return failure{fmt.Errorf("writing the results: %w", unwritten)}
	}
	return err
}

// ledgerListCommand is 'gladd ledger list'.
type ledgerListCommand struct {
	Of         ledgerFlags        `embed:""`
	Range      rangeFlags         `embed:""`
	Evaluation verdict.Evaluation `help:"Results of one evaluation: OK, NotOK, NotDecidable or Undefined." enum:"OK,NotOK,NotDecidable,Undefined," default:"" placeholder:"NAME"`
	Part       string             `help:"Results of one part." placeholder:"ID"`
	Purpose    verdict.Purpose    `help:"Results of one purpose: production, challenge, msa, reinspection or setup." enum:"production,challenge,msa,reinspection,setup," default:"" placeholder:"NAME"`
	Waiting    bool               `help:"Results that the MES does not have yet."`
	Parked     bool               `help:"Results that the MES rejected or did not acknowledge, with the reason."`
	Unfinished bool               `help:"Triggers that have no result yet, instead of results."`
	Limit      int                `help:"The newest only, 50 without it; 0: all." default:"50" placeholder:"N"`
	Format     string             `help:"text for people, or json: a line for each." default:"text" enum:"json,text" placeholder:"NAME"`
}

// Help is shown below the flags.
func (ledgerListCommand) Help() string {
	return `The order is that in which results were recorded; --since and --until look at the time that each names. Delivery: sent, waiting, unacknowledged or rejected.

Exit code: 0 done, whatever was found; 1 the results could not be written; 2 wrong usage or ledger.`
}

// Run lists.
func (c *ledgerListCommand) Run(env *environment) error {
	query, err := c.query(time.Now())
	if err != nil {
		return err
	}
	reader, _, err := c.Of.open(env.ctx, "")
	if err != nil {
		return err
	}
	defer reader.Close() //nolint:errcheck // it was only read
	return writeTo(env.stdout, func(out *bufio.Writer) error {
		if c.Unfinished {
			return c.listUnfinished(env.ctx, reader, query, out)
		}
		return c.list(env.ctx, reader, query, out)
	})
}

func (c *ledgerListCommand) query(now time.Time) (ledger.Query, error) {
	query, err := c.Range.query(now)
	if err != nil {
		return query, err
	}
	if c.Limit < 0 {
		return query, fmt.Errorf("--limit: expected a number from 0 on, found %d", c.Limit)
	}
	if c.Unfinished && (c.Evaluation != "" || c.Purpose != "" || c.Waiting || c.Parked) {
		return query, errors.New("--unfinished: such triggers have no result, and so neither evaluation nor delivery; leave --evaluation, --purpose, --waiting and --parked out")
	}
	query.Evaluation, query.Part, query.Purpose, query.Waiting, query.Parked, query.Last = c.Evaluation, c.Part, c.Purpose, c.Waiting, c.Parked, c.Limit
	return query, nil
}

// listed is a result in a list.
type listed struct {
	Source     string             `json:"source"`
	Sequence   int64              `json:"sequence"`
	ResultID   string             `json:"result_id"`
	TriggerID  string             `json:"trigger_id"`
	Finished   verdict.Time       `json:"finished"`
	Kind       string             `json:"kind"`
	View       *string            `json:"view"`
	Evaluation verdict.Evaluation `json:"evaluation"`
	Reason     *verdict.Reason    `json:"reason"`
	Score      *float64           `json:"anomaly_score"`
	PartID     *string            `json:"part_id"`
	Attempt    int                `json:"attempt"`
	Purpose    verdict.Purpose    `json:"purpose"`
	Delivery   ledger.Delivery    `json:"delivery"`
	Problem    *string            `json:"problem"` // why the record cannot be read
}

func (c *ledgerListCommand) list(ctx context.Context, reader *ledger.Reader, query ledger.Query, out *bufio.Writer) error {
	count := 0
	err := reader.Each(ctx, query, func(stored *ledger.Stored) error {
		if count++; count == 1 && c.Format == "text" {
			fmt.Fprintf(out, "%-24s  %-10s  %8s  %-12s  %-12s  %8s  %-14s  %7s  %-26s  %s\n", "FINISHED", "STATION", "SEQUENCE", "EVALUATION", "REASON", "SCORE", "DELIVERY", "ATTEMPT", "RESULT", "PART")
		}
		each := listed{
			Source: stored.Source, Sequence: stored.Sequence, ResultID: stored.ResultID, TriggerID: stored.TriggerID, Finished: stored.Finished,
			Evaluation: stored.Evaluation, Delivery: stored.Delivery,
		}
		if record, err := stored.Record(); err == nil {
			each.Kind, each.View, each.Reason, each.Score = record.Kind, record.View, record.Reason, record.AnomalyScore
			each.PartID, each.Attempt, each.Purpose = record.Part.ID, record.Attempt, record.Purpose
		} else {
			problem := err.Error()
			each.Problem = &problem
		}
		if c.Format == "text" {
			_, err := fmt.Fprintln(out, each.text())
			return err
		}
		return writeLine(out, each)
	})
	if err == nil && count == 0 && c.Format == "text" {
		_, err = fmt.Fprintln(out, "no such results")
	}
	return err
}

// text is a line for people.
func (l *listed) text() string {
	reason, score := "", ""
	if l.Reason != nil {
		reason = string(l.Reason.Code)
	}
	if l.Score != nil {
		score = fmt.Sprintf("%.4f", *l.Score)
	}
	line := fmt.Sprintf("%s  %-10s  %8d  %-12s  %-12s  %8s  %-14s  %7d  %s", l.Finished, stationOf(l.Source), l.Sequence, l.Evaluation, reason, score,
		l.Delivery.State, l.Attempt, l.ResultID)
	if l.PartID != nil {
		line += fmt.Sprintf("  %q", *l.PartID)
	}
	if l.View != nil {
		line += fmt.Sprintf("  view %q", *l.View)
	}
	if l.Purpose != verdict.Production && l.Purpose != "" {
		line += "  " + string(l.Purpose)
	}
	if l.Delivery.Reason != nil {
		line += fmt.Sprintf("  (%s: %q)", l.Delivery.State, *l.Delivery.Reason)
	}
	if l.Problem != nil {
		line += "  " + *l.Problem
	}
	return line
}

func stationOf(source string) string { return source[strings.LastIndexByte(source, '/')+1:] }

func writeLine(out *bufio.Writer, value any) error {
	line, err := verdict.JSON(value)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", line)
	return err
}

// listedTrigger is a trigger without a result in a list.
type listedTrigger struct {
	Source    string          `json:"source"`
	TriggerID string          `json:"trigger_id"`
	Accepted  verdict.Time    `json:"accepted"`
	Kind      string          `json:"kind"`
	View      *string         `json:"view"`
	CommandID *string         `json:"command_id"`
	PartID    *string         `json:"part_id"`
	Attempt   int             `json:"attempt"`
	Purpose   verdict.Purpose `json:"purpose"`
	Problem   *string         `json:"problem"` // why the trigger cannot be read
}

func (c *ledgerListCommand) listUnfinished(ctx context.Context, reader *ledger.Reader, query ledger.Query, out *bufio.Writer) error {
	count := 0
	err := reader.EachUnfinished(ctx, query, func(trigger *ledger.Unfinished) error {
		count++
		each := listedTrigger{Source: trigger.Source, TriggerID: trigger.TriggerID, Accepted: trigger.Accepted}
		if draft, err := trigger.Draft(); err == nil {
			each.Kind, each.View, each.CommandID, each.PartID, each.Attempt, each.Purpose = draft.Kind, draft.View, draft.CommandID, draft.Part.ID, draft.Attempt, draft.Purpose
		} else {
			problem := err.Error()
			each.Problem = &problem
		}
		if c.Format == "json" {
			return writeLine(out, each)
		}
		line := fmt.Sprintf("%s  %-10s  %s  %s", each.Accepted, stationOf(each.Source), each.TriggerID, each.Kind)
		if each.PartID != nil {
			line += fmt.Sprintf("  %q", *each.PartID)
		}
		if each.Problem != nil {
			line += "  " + *each.Problem
		}
		_, err := fmt.Fprintln(out, line)
		return err
	})
	if err == nil && count == 0 && c.Format == "text" {
		_, err = fmt.Fprintln(out, "no such triggers")
	}
	return err
}
