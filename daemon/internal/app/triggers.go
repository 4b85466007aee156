package app

import (
	"context"
	"strings"
	"time"

	"gladd/capture"
	"gladd/configs"
	"gladd/daemon/internal/station"
)

// startTriggers starts the triggers that come from the daemon itself; those of
// MQTT and HTTP come by themselves.
func (d *daemon) startTriggers(ctx context.Context) {
	for i, each := range d.stations {
		config := d.config.Stations[i]
		every := time.Duration(config.Trigger.Every)
		switch config.Trigger.Kind {
		case configs.TriggerInterval:
			d.triggers.Go(func() { d.triggerByClock(ctx, each, every) })
		case configs.TriggerFolder:
			d.triggers.Go(func() { d.triggerByFolder(ctx, each, config, every) })
		}
	}
}

// triggerByClock triggers at an interval. A station whose camera has no more
// pictures takes no triggers, until a reset begins anew.
func (d *daemon) triggerByClock(ctx context.Context, each *station.Station, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		each.Trigger(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// triggerByFolder triggers with every picture that comes into a folder.
func (d *daemon) triggerByFolder(ctx context.Context, each *station.Station, config configs.Station, every time.Duration) {
	dir, _, _ := strings.Cut(strings.TrimPrefix(config.Camera.Source, "folder:"), "?")
	capture.Watch(ctx, dir, every,
		func(arrival capture.Arrival) bool { return each.Offer(arrival.ID, arrival.Path, arrival.Rel) },
		each.CameraProblem)
}
