package app

import (
	"time"

	"gladd/configs"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/web"
)

// partOf is the part of several views that a station sees; nil: there is none.
func (d *daemon) partOf(config configs.Station) *station.Part {
	part := d.config.PartOf(config.Name)
	if part == nil {
		return nil
	}
	return &station.Part{
		Name:     part.Name,
		Source:   d.source(part.Name),
		Views:    part.ViewNames(""),
		Here:     part.ViewNames(config.Name),
		Deadline: time.Duration(part.Deadline),
		Attempts: part.Attempts,
		Begun:    d.parts.Wake,
	}
}

// observedPart is what the metrics say of a part of several views.
func (d *daemon) observedPart(name string) (web.Observed, error) {
	source := d.source(name)
	counters, err := d.ledger.Counters(source)
	if err != nil {
		return web.Observed{}, err
	}
	waiting, err := d.ledger.Waiting(source)
	return web.Observed{
		Station: name, IsPart: true, Counters: counters,
		Outbox: waiting.Count, OutboxOldest: oldestSeconds(waiting), Unacknowledged: waiting.Unacknowledged, Rejected: waiting.Rejected,
	}, err
}
