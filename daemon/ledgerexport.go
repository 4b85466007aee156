package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/renameio/v2"

	"gladd/daemon/internal/export"
	"gladd/daemon/internal/ledger"
)

// ledgerExportCommand is 'gladd ledger export'.
type ledgerExportCommand struct {
	Of     ledgerFlags `embed:""`
	Range  rangeFlags  `embed:""`
	Format string      `required:"" help:"csv, or jsonl: the records as they stand in the ledger." enum:"csv,jsonl" placeholder:"NAME"`
	Out    string      `help:"Write this file, whole or not at all, instead of stdout." placeholder:"FILE"`
}

// Help is shown below the flags.
func (ledgerExportCommand) Help() string {
	return `The order is that in which results were recorded; --since and --until look at the time that each names. Without them all results are written.

CSV is that of RFC 4180, with a header, in UTF-8. A cell that begins with = + - @ or a tab, carriage return or line feed gets an apostrophe before it, so that no spreadsheet takes it for a formula; numbers are left as they are. jsonl has a line {"source":…,"record":…} for each result, the record byte for byte.

Exit code: 0 done; 1 it could not all be written, or a record could not be read and is left out; 2 wrong usage or ledger.`
}

// Run exports.
func (c *ledgerExportCommand) Run(env *environment) error {
	query, err := c.Range.query(time.Now())
	if err != nil {
		return err
	}
	reader, _, err := c.Of.open(env.ctx, "")
	if err != nil {
		return err
	}
	defer reader.Close() //nolint:errcheck // it was only read
	written, unread := 0, 0
	write := func(out *bufio.Writer) error {
		put, flush, err := c.format(out)
		if err != nil {
			return err
		}
		if err := reader.Each(env.ctx, query, func(stored *ledger.Stored) error {
			err := put(stored)
			if errors.As(err, &unreadable{}) {
				env.log.Error("left out", "error", err)
				unread++
				return nil
			}
			written++
			return err
		}); err != nil {
			return err
		}
		return flush()
	}
	if c.Out == "" {
		err = writeTo(env.stdout, write)
	} else {
		err = writeFile(c.Out, write)
	}
	if errors.Is(err, context.Canceled) {
		return failure{fmt.Errorf("cut short: %w", err)}
	}
	if err != nil {
		return err
	}
	if c.Out != "" {
		env.log.Info("done", "results", written, "file", c.Out)
	}
	if unread > 0 {
		return failure{fmt.Errorf("records that cannot be read and are left out: %d; 'gladd ledger verify' tells more", unread)}
	}
	return nil
}

// unreadable is the error of a record that cannot be read.
type unreadable struct{ error }

// format returns what writes a result, and what ends the output.
func (c *ledgerExportCommand) format(out *bufio.Writer) (put func(*ledger.Stored) error, flush func() error, err error) {
	if c.Format == "jsonl" {
		return func(stored *ledger.Stored) error {
			if _, err := stored.Record(); err != nil {
				return unreadable{err}
			}
			return export.Line(out, stored)
		}, func() error { return nil }, nil
	}
	rows, err := export.NewCSV(out)
	if err != nil {
		return nil, nil, err
	}
	return func(stored *ledger.Stored) error {
		record, err := stored.Record()
		if err != nil {
			return unreadable{err}
		}
		return rows.Write(stored.Source, record)
	}, rows.Flush, nil
}

// writeFile writes a file that appears when it is whole.
func writeFile(path string, write func(*bufio.Writer) error) error {
	file, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return failure{fmt.Errorf("write %s: %w", path, err)}
	}
	defer file.Cleanup() //nolint:errcheck // it removes what is not whole
	if err := writeTo(file, write); err != nil {
		return err
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return failure{fmt.Errorf("write %s: %w", path, err)}
	}
	return nil
}
