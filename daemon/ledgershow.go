package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// ledgerShowCommand is 'gladd ledger show'.
type ledgerShowCommand struct {
	IDs    []string    `arg:"" name:"ID" help:"Results or triggers by their ids, or parts: all their results."`
	Of     ledgerFlags `embed:""`
	Images imagesFlags `embed:""`
	Format string      `help:"text for people, or json: a line for each result." default:"text" enum:"json,text" placeholder:"NAME"`
}

// Help is shown below the flags.
func (ledgerShowCommand) Help() string {
	return `Shows the record, how far it is on its way to the MES, where its picture is, reviews, the reply to its command, and the views of a part or the part of a view.

Exit code: 0 done; 1 the results could not be written; 2 wrong usage or ledger, or nothing has that id.`
}

// Run shows.
func (c *ledgerShowCommand) Run(env *environment) error {
	reader, images, err := c.Of.open(env.ctx, c.Images.Images)
	if err != nil {
		return err
	}
	defer reader.Close() //nolint:errcheck // it was only read
	return writeTo(env.stdout, func(out *bufio.Writer) error {
		shown := 0
		for _, id := range c.IDs {
			count, err := reader.Stories(env.ctx, id, func(story *ledger.Story) error {
				if c.Format == "json" {
					return writeStoryJSON(out, story, images)
				}
				if shown++; shown > 1 {
					fmt.Fprintln(out)
				}
				return writeStory(out, story, images)
			})
			if err != nil {
				return err
			}
			if count == 0 {
				return fmt.Errorf("ledger %s: no result, trigger or part %q; results older than ledger.keep are gone", reader.Path(), id)
			}
		}
		return nil
	})
}

// story is a result with all around it, as JSON.
type story struct {
	Source    string           `json:"source"`
	TriggerID string           `json:"trigger_id"`
	Accepted  verdict.Time     `json:"accepted"`
	Record    json.RawMessage  `json:"record"` // null: there is none
	Draft     json.RawMessage  `json:"draft"`  // what was known at the trigger, where there is no record yet
	Digest    *string          `json:"digest"` // SHA-256 of the record's bytes
	Delivery  *ledger.Delivery `json:"delivery"`
	Picture   *storyPicture    `json:"picture"`
	Reviews   []storyReview    `json:"reviews"`
	Reply     json.RawMessage  `json:"reply"`
	Part      *storyResult     `json:"part"`
	Views     []storyResult    `json:"views"`
}

type storyPicture struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

type storyReview struct {
	ReviewID string          `json:"review_id"`
	Reviewed verdict.Time    `json:"reviewed"`
	Review   json.RawMessage `json:"review"`
}

type storyResult struct {
	Source     string             `json:"source"`
	Sequence   int64              `json:"sequence"`
	ResultID   string             `json:"result_id"`
	Evaluation verdict.Evaluation `json:"evaluation"`
}

func storyResultOf(stored *ledger.Stored) storyResult {
	return storyResult{stored.Source, stored.Sequence, stored.ResultID, stored.Evaluation}
}

func writeStoryJSON(out *bufio.Writer, of *ledger.Story, images string) error {
	line := story{Source: of.Source, TriggerID: of.TriggerID, Accepted: of.Accepted, Draft: of.JSON, Reply: of.Reply, Reviews: []storyReview{}, Views: []storyResult{}}
	if len(of.JSON) == 0 {
		line.Draft = nil
	}
	if of.Result != nil {
		line.Record, line.Delivery = of.Result.JSON, &of.Result.Delivery
		if of.Result.Digest != "" {
			line.Digest = &of.Result.Digest
		}
		if of.Result.Image != "" {
			line.Picture = &storyPicture{filepath.Join(images, of.Result.Image), of.ImageBytes}
		}
	}
	for _, review := range of.Reviews {
		line.Reviews = append(line.Reviews, storyReview{review.ReviewID, review.Reviewed, review.JSON})
	}
	if of.Part != nil {
		part := storyResultOf(of.Part)
		line.Part = &part
	}
	for _, view := range of.Views {
		line.Views = append(line.Views, storyResultOf(view))
	}
	return writeLine(out, line)
}

// writeStory writes a result for people: foreign text is quoted.
func writeStory(out *bufio.Writer, of *ledger.Story, images string) error {
	line := func(name, format string, arguments ...any) {
		fmt.Fprintf(out, "  %-11s  %s\n", name, fmt.Sprintf(format, arguments...))
	}
	record, err := (*verdict.Record)(nil), error(nil)
	if of.Result == nil {
		fmt.Fprintf(out, "%s  no result yet\n", of.TriggerID)
		if len(of.JSON) == 0 {
			line("problem", "its record is gone: 'gladd ledger verify'")
		} else {
			record, err = of.Draft()
		}
	} else {
		record, err = of.Result.Record()
		fmt.Fprintf(out, "%s  %s", of.Result.ResultID, of.Result.Evaluation)
		if record != nil && record.Reason != nil {
			fmt.Fprintf(out, "  %s: %s", record.Reason.Code, printable(record.Reason.Detail))
		}
		fmt.Fprintln(out)
		line("source", "%s, sequence %d", of.Source, of.Result.Sequence)
	}
	if err != nil {
		line("problem", "%v", err)
	}
	line("trigger", "%s, accepted %s", of.TriggerID, of.Accepted)
	if record != nil {
		writeRecord(line, record, of.Result != nil)
	}
	if of.Result != nil {
		writeStored(line, of, record, images)
	}
	if of.Reply != nil {
		line("reply", "%s", printable(string(of.Reply)))
	}
	for _, review := range of.Reviews {
		line("review", "%s  %s", review.Reviewed, printable(string(review.JSON)))
	}
	other := func(name string, stored *ledger.Stored) {
		line(name, "%s  %s  %s, sequence %d", stored.ResultID, stored.Evaluation, stored.Source, stored.Sequence)
	}
	if of.Part != nil {
		other("part's", of.Part)
	}
	for _, view := range of.Views {
		other("view's", view)
	}
	return nil
}

// writeRecord writes what the record says.
func writeRecord(line func(name, format string, arguments ...any), record *verdict.Record, finished bool) {
	part := []string{}
	for _, each := range []struct {
		name string
		text *string
	}{
		{"", record.Part.ID}, {"of ", record.Part.ParentID}, {"position ", record.Part.Position}, {"product ", record.Part.ProductID},
		{"order ", record.Part.OrderID}, {"carrier ", record.Part.CarrierID}, {"measurement ", record.MeasurementID}, {"view ", record.View},
	} {
		if each.text != nil {
			part = append(part, fmt.Sprintf("%s%q", each.name, *each.text))
		}
	}
	part = append(part, fmt.Sprintf("attempt %d", record.Attempt))
	if record.PreviousResultID != nil {
		part = append(part, "after result "+*record.PreviousResultID)
	}
	line("part", "%s", strings.Join(part, ", "))
	purpose := string(record.Purpose)
	if record.IsSimulated {
		purpose += ", simulated"
	}
	line("purpose", "%s", purpose)
	if record.CommandID != nil {
		line("command", "%q", *record.CommandID)
	}
	if string(record.Context) != "" && string(record.Context) != "{}" {
		line("context", "%s", printable(string(record.Context)))
	}
	if record.Recipe != (verdict.Recipe{}) {
		line("recipe", "%s, version %q", record.Recipe.Name, record.Recipe.Version)
	}
	if record.Bundle != (verdict.Bundle{}) {
		line("bundle", "%q, version %q, %s", record.Bundle.Name, record.Bundle.Version, record.Bundle.Digest)
	}
	if !finished {
		return
	}
	if record.AnomalyScore != nil {
		threshold := "no threshold"
		if record.ImageThreshold != nil {
			threshold = fmt.Sprintf("threshold %v", *record.ImageThreshold)
		}
		line("score", "%v, %s", *record.AnomalyScore, threshold)
	}
	if record.CalibrationID != nil {
		line("calibration", "%q", *record.CalibrationID)
	}
	if record.Method != (verdict.Method{}) {
		line("method", "%s, %s, mode %s, plan %s", record.Method.Software, record.Method.Backend, record.Method.Mode, record.Method.Plan)
	}
	if record.Camera != (verdict.Camera{}) {
		line("camera", "%q", record.Camera.Name)
	}
	times := fmt.Sprintf("triggered %s, ", record.Times.Triggered)
	if record.Times.Captured != nil {
		times += fmt.Sprintf("captured %s, ", record.Times.Captured)
	}
	line("times", "%sfinished %s, after %v ms", times, record.Times.Finished, record.LatencyMS)
	if record.Clock.Synchronized {
		line("clock", "synchronized")
	} else {
		line("clock", "not synchronized")
	}
	for _, region := range record.Regions {
		line("region", "%d x %d at %d, %d, area %d, peak %v", region.Width, region.Height, region.X, region.Y, region.Area, region.Peak)
	}
}

// writeStored writes what the ledger knows beside the record.
func writeStored(line func(name, format string, arguments ...any), of *ledger.Story, record *verdict.Record, images string) {
	result := of.Result
	switch {
	case result.Image != "":
		line("picture", "%s, %d bytes", filepath.Join(images, result.Image), of.ImageBytes)
	case record == nil:
	case record.Image == nil:
		line("picture", "there was none")
	case record.Image.Kept:
		line("picture", "removed since (ledger.images: max_bytes, ledger.keep)")
	default:
		line("picture", "not kept (ledger.images: keep)")
	}
	switch sum := sha256.Sum256(result.JSON); {
	case result.Digest == "":
		line("digest", "none, the record is an earlier version's")
	case result.Digest == hex.EncodeToString(sum[:]):
		line("digest", "%s, right", result.Digest)
	default:
		line("digest", "%s, but the record was changed: it has %x", result.Digest, sum)
	}
	delivery := string(result.Delivery.State)
	if result.Delivery.Reason != nil {
		delivery += fmt.Sprintf(": %q", *result.Delivery.Reason)
	}
	if result.Delivery.Entered != nil {
		delivery += fmt.Sprintf(", since %s", result.Delivery.Entered)
	}
	if result.Delivery.Tries > 0 {
		delivery += fmt.Sprintf(", published %s", times(result.Delivery.Tries))
	}
	if result.Delivery.Published != nil {
		delivery += fmt.Sprintf(", last %s", result.Delivery.Published)
	}
	line("delivery", "%s", delivery)
}

func times(count int) string {
	if count == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", count)
}

// printable is foreign text without what a terminal would obey.
func printable(text string) string {
	quoted := fmt.Sprintf("%q", text)
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
		return quoted
	}
	return text
}
