package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/ledger"
)

// ledgerVerifyCommand is 'gladd ledger verify'.
type ledgerVerifyCommand struct {
	Of       ledgerFlags `embed:""`
	Images   imagesFlags `embed:""`
	Pictures bool        `help:"Verify the pictures, too: each is decoded, which takes long where there are many."`
	Stopped  bool        `help:"A trigger without a result is a problem, also while a daemon has the ledger, and in a copy."`
	Limit    int         `help:"How many problems and notes are told, 100 without it; the others are counted. 0: all." default:"100" placeholder:"N"`
}

// Help is shown below the flags.
func (ledgerVerifyCommand) Help() string {
	return `Verifies that each source's sequences have no gap from the oldest that is kept to the last one given, that every trigger has exactly one result, that no record was changed (SHA-256) and all agree with what stands beside them, that parts are what their views make of them, that counters count, that outbox and reviews name results, and SQLite's own structures. A trigger without a result is under way while a daemon has the ledger, and was so in a copy.

Exit code: 0 all is right; 1 there are problems; 2 wrong usage or ledger.`
}

// Run verifies.
func (c *ledgerVerifyCommand) Run(env *environment) error {
	if c.Limit < 0 {
		return fmt.Errorf("--limit: expected a number from 0 on, found %d", c.Limit)
	}
	reader, images, err := c.Of.open(env.ctx, c.Images.Images)
	if err != nil {
		return err
	}
	defer reader.Close() //nolint:errcheck // it was only read
	if !c.Pictures {
		images = ""
	}
	problems := 0
	err = writeTo(env.stdout, func(out *bufio.Writer) error {
		tell := func(kind string, count *int) func(string) {
			return func(text string) {
				if *count++; c.Limit == 0 || *count <= c.Limit {
					fmt.Fprintf(out, "%s: %s\n", kind, printable(text))
				}
			}
		}
		notes := 0
		found, err := reader.Verify(env.ctx, ledger.VerifyOptions{
			Stopped: c.Stopped, ImagesDir: images, ReadPicture: readPicture,
			Problem: tell("problem", &problems), Note: tell("note", &notes),
			Begin: env.progress.begin, Step: env.progress.step,
		})
		env.progress.end()
		if errors.Is(err, context.Canceled) {
			return failure{fmt.Errorf("cut short: %w", err)}
		}
		if err != nil {
			return err
		}
		c.summary(out, reader.Path(), found, problems, notes)
		return nil
	})
	if err != nil {
		return err
	}
	if problems > 0 {
		return failure{fmt.Errorf("ledger %s: %s", reader.Path(), plural(problems, "problem"))}
	}
	return nil
}

// readPicture returns the digest of a picture's pixels.
func readPicture(path string) (string, error) {
	picture, err := capture.ReadPicture(path, 0)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(picture.RGB)), nil
}

// summary writes what the ledger holds.
func (c *ledgerVerifyCommand) summary(out *bufio.Writer, path string, found *ledger.Verified, problems, notes int) {
	for _, each := range []struct {
		kind  string
		count int
	}{{"problem", problems}, {"note", notes}} {
		if more := each.count - c.Limit; c.Limit > 0 && more > 0 {
			fmt.Fprintf(out, "and %s\n", plural(more, "more "+each.kind))
		}
	}
	fmt.Fprintf(out, "%s: ledger %s, tables of version %d\n", path, found.LedgerID, found.Version)
	for _, source := range found.Sources {
		removed := ""
		if source.First > 1 {
			removed = "; those before are not kept any more"
		}
		fmt.Fprintf(out, "  %s: %s, sequence %d to %d%s\n", source.Source, plural(source.Results, "result"), source.First, source.Last, removed)
	}
	if found.UnderWay > 0 {
		when := fmt.Sprintf("%s ago", time.Since(found.OldestUnderWay.Time).Round(time.Millisecond))
		if found.Copied {
			when = "this is a copy"
		}
		fmt.Fprintf(out, "  %s under way, the oldest accepted %s (%s)\n", plural(found.UnderWay, "trigger"), found.OldestUnderWay, when)
	}
	if found.OpenParts > 0 {
		fmt.Fprintf(out, "  %s whose views are still to come\n", plural(found.OpenParts, "part"))
	}
	if found.Undigested > 0 {
		fmt.Fprintf(out, "  %s of an earlier version without a digest\n", plural(found.Undigested, "record"))
	}
	if c.Pictures {
		fmt.Fprintf(out, "  %s\n", plural(found.Pictures, "picture"))
	}
	if problems == 0 {
		fmt.Fprintln(out, "all is right")
	}
}
