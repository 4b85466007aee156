package app

import (
	"context"
	"time"
)

// gpuLost hears of a GPU that this process cannot use again.
func (d *daemon) gpuLost(err error) {
	select {
	case d.lost <- err:
	default: // it ends already
	}
}

// wait waits for the end: that of ctx, or of a GPU's use, after which only a new
// process works. Under UntilFinished also until every camera's pictures are used up
// and have their verdicts.
func (d *daemon) wait(ctx context.Context) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	if !d.options.UntilFinished {
		ticker.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.lost:
			return FaultError{err}
		case <-ticker.C:
		}
		left := 0
		for _, each := range d.stations {
			if each.Outstanding() > 0 || !each.CameraFinished() && each.ModelError() == nil {
				left++
			}
		}
		if left == 0 {
			return nil
		}
	}
}
