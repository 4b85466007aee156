package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gladd/configs"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/station"
)

// How often it is looked after what is stored.
const (
	pruneEvery  = 10 * time.Second
	ledgerEvery = time.Second // and whenever its health changes
)

// openLedger opens the ledger; on a full disk pictures make room for it.
func (d *daemon) openLedger(ctx context.Context) (*ledger.Ledger, error) {
	options := ledger.Options{Path: d.config.Ledger.Path}
	opened, err := ledger.Open(ctx, options)
	if !ledger.IsFull(err) {
		return opened, err
	}
	removed, failed := ledger.MakeRoomToOpen(options.Path, d.config.Ledger.Images.Dir)
	if removed == 0 {
		return nil, errors.Join(err, failed)
	}
	d.log.Warn("the ledger's disk is full; the oldest pictures were removed", "count", removed, "error", err)
	return ledger.Open(ctx, options)
}

// keepRoom removes pictures beyond their limits: now and then, when one found no
// room, and when the ledger finds none.
func (d *daemon) keepRoom(ctx context.Context) {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	broken := make(chan struct{}, 1)
	defer d.ledger.WatchHealth(func() { signal(broken) })()
	told, low := "", false
	for {
		prune := d.images.Prune
		if ledger.IsFull(d.ledger.Health()) {
			prune = d.images.MakeRoom
		}
		if err := prune(ctx); err != nil && ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			d.log.Error("pictures beyond their limits cannot be removed", "error", err)
		}
		if err := d.lowSpace(); (err != nil) != low {
			low = err != nil
			if low {
				d.log.Error("too little space", "error", err)
			} else {
				d.log.Info("there is space for pictures again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-d.images.Wanting():
		case <-broken:
		}
	}
}

// signal sends a token to a channel that has room for one.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// lowSpace says that no pictures are kept for want of space; nil: they are, or
// none are wanted.
func (d *daemon) lowSpace() error {
	if d.config.Ledger.Images.Keep == configs.KeepNone {
		return nil
	}
	return d.images.Low()
}

// retain removes what is too old.
func (d *daemon) retain(ctx context.Context) {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	told := ""
	for {
		if err := d.retention.Prune(ctx); err != nil && ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			d.log.Warn("old records and pictures are not removed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// watchLedger tells the stations when nothing can be recorded, and when it can
// be again. That is looked at once more after it changed: a station whose trigger
// could just not be recorded may have noted so meanwhile.
func (d *daemon) watchLedger(ctx context.Context) {
	ticker := time.NewTicker(ledgerEvery)
	defer ticker.Stop()
	changed := make(chan struct{}, 1)
	defer d.ledger.WatchHealth(func() { signal(changed) })()
	again := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-changed:
			again = 2
		}
		err := d.ledger.Health()
		if err == nil && again == 0 {
			continue
		}
		again = max(0, again-1)
		for _, each := range d.stations {
			each.LedgerProblem(err)
		}
	}
}

// outboxHealth describes what the MES does not have of a station, and says what
// to do about it.
func (d *daemon) outboxHealth(each *station.Station) (outbox mes.Outbox, reasons []string) {
	waiting, err := d.ledger.Waiting(each.Source())
	if err != nil {
		return outbox, []string{err.Error()}
	}
	outbox = mes.Outbox{Count: waiting.Count, Unacknowledged: waiting.Unacknowledged, Rejected: waiting.Rejected, OldestS: oldestSeconds(waiting)}
	reasons = parkedReasons(each.Name(), waiting)
	if part := d.config.PartOf(each.Name()); part != nil {
		ofPart, err := d.ledger.Waiting(d.source(part.Name))
		if err != nil {
			return outbox, append(reasons, err.Error())
		}
		reasons = append(reasons, parkedReasons(part.Name, ofPart)...)
	}
	return outbox, reasons
}

// parkedReasons say what is parked of a station or of a part of several views.
func parkedReasons(name string, waiting ledger.Waiting) (reasons []string) {
	if waiting.Unacknowledged > 0 {
		reasons = append(reasons, fmt.Sprintf("%s not acknowledged by the MES; gladd sends again until the MES publishes the result_id on %s/ack, or mqtt.require_ack is false",
			verdictsWere(name, waiting.Unacknowledged), name))
	}
	if waiting.Rejected > 0 {
		reasons = append(reasons, fmt.Sprintf("%s rejected by the MES; gladd ledger list --parked tells which and why; one that the MES accepts after all is cleared",
			verdictsWere(name, waiting.Rejected)))
	}
	return reasons
}

func oldestSeconds(waiting ledger.Waiting) float64 {
	if waiting.Oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(waiting.Oldest).Round(time.Second/10).Seconds())
}

func verdictsWere(name string, count int64) string {
	if count == 1 {
		return "1 verdict of " + name + " was"
	}
	return fmt.Sprintf("%d verdicts of %s were", count, name)
}

// picturesError says why a station's pictures are not stored; nil: they are.
// Whether there is space is asked now, not at the last picture.
func (d *daemon) picturesError(each *station.Station) error {
	if err := d.lowSpace(); err != nil {
		return err
	}
	if err := each.ImagesError(); err != nil && !errors.As(err, new(*ledger.LowSpaceError)) {
		return err
	}
	return nil
}
