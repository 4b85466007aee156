package main

import (
	"context"
	"errors"
	"fmt"

	"gladd/capture/virtualline"
)

// lineCommand is 'gladd line'.
type lineCommand struct {
	Out       string `required:"" help:"Folder for the parts; new or empty." placeholder:"DIR"`
	Train     int    `help:"Good parts to train with; ${default} without it." default:"300" placeholder:"N"`
	Good      int    `help:"Good parts to test with; ${default} without it." default:"100" placeholder:"N"`
	Defective int    `help:"Defective parts to test with; they take turns through the kinds of defect and three severities; ${default} without it." default:"100" placeholder:"N"`
	Seed      uint64 `help:"Another seed gives other parts; the same gives the same, on every machine; ${default} without it." default:"1" placeholder:"S"`
	Part      string `help:"Kind of part: plate, board, cap or surface; ${default} without it." default:"plate" enum:"plate,board,cap,surface" placeholder:"KIND"`
	Size      int    `help:"Side of the pictures in pixels; ${default} without it." default:"256" placeholder:"PX"`
}

// Help is shown below the flags.
func (lineCommand) Help() string {
	return `Writes pictures of parts that were never made, in the layout of MVTec AD: train/good, test/good, test/<defect> and masks in ground_truth/<defect>, with parts.jsonl to list them all. A defective part's file name ends in its severity: obvious, plain or faint.

Exit code: 0 done; 1 cut short, or the disk failed; 2 wrong usage.`
}

// Run writes the parts.
func (c *lineCommand) Run(env *environment) error {
	for _, count := range []struct {
		flag  string
		value int
	}{{"train", c.Train}, {"good", c.Good}, {"defective", c.Defective}} {
		if count.value < 0 {
			return fmt.Errorf("--%s: expected a number of parts, found %d", count.flag, count.value)
		}
	}
	if c.Train+c.Good+c.Defective == 0 {
		return errors.New("there is nothing to draw: expected parts by --train, --good or --defective, found 0 of each")
	}
	line, err := virtualline.New(virtualline.Kind(c.Part), c.Seed, c.Size)
	if err != nil {
		return err
	}
	counts := virtualline.Counts{Train: c.Train, Good: c.Good, Defective: c.Defective}
	env.progress.begin("drawing", c.Train+c.Good+c.Defective)
	err = line.WriteDataset(env.ctx, c.Out, counts, env.progress.step)
	env.progress.end()
	switch {
	case errors.Is(err, context.Canceled):
		return failure{fmt.Errorf("stopped before all parts were drawn; remove %s before the next attempt", c.Out)}
	case errors.As(err, new(virtualline.FolderError)):
		return err
	case err != nil:
		return failure{err}
	}
	env.log.Info("done", "parts", c.Train+c.Good+c.Defective, "folder", c.Out)
	return nil
}
