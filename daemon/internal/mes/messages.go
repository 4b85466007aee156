package mes

import (
	"slices"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Status is the box's retained message, and its will.
type Status struct {
	Status   string       `json:"status"` // online | offline
	Session  int64        `json:"session"`
	Since    verdict.Time `json:"since"`
	LedgerID string       `json:"ledger_id"` // tells apart two boxes of one name
}

// What the status says.
const (
	statusOnline  = "online"
	statusOffline = "offline"
)

// Snapshot is what a station's retained messages say. They are valid only
// while the box is online in the session that they name.
type Snapshot struct {
	// States are those entered since the last snapshot, in order, the present
	// one last.
	States   []State
	Recipe   Recipe
	Counters Counters
}

// State is a station's state.
type State struct {
	State   string       `json:"state"`
	Reason  *string      `json:"reason"`
	Since   verdict.Time `json:"since"`
	Session int64        `json:"session"`
}

// Recipe is what a station inspects with; all null where none is prepared.
type Recipe struct {
	Name          *string         `json:"name"`
	Version       *string         `json:"version"`
	Digest        *string         `json:"digest"`
	Bundle        *verdict.Bundle `json:"bundle"`
	CalibrationID *string         `json:"calibration_id"`
	Session       int64           `json:"session"`
}

// Health says how a station is.
type Health struct {
	Camera  Part          `json:"camera"`
	Engine  Part          `json:"engine"`
	GPU     any           `json:"gpu"`
	Outbox  Outbox        `json:"outbox"`
	Queue   Queue         `json:"queue"`
	Clock   verdict.Clock `json:"clock"`
	Disk    *Disk         `json:"disk"`    // null when it cannot be read
	Reasons []string      `json:"reasons"` // what is wrong; empty: nothing
	Session int64         `json:"session"`
}

// Part is a part of a station: whether it works, and why not.
type Part struct {
	OK     bool    `json:"ok"`
	Name   string  `json:"name"`
	Detail *string `json:"detail"`
}

// Outbox is what the MES does not have yet, those among them that it did not
// acknowledge, and beside them those that it rejected.
type Outbox struct {
	Count          int64   `json:"count"`          // the unacknowledged among them, the rejected not
	OldestS        float64 `json:"oldest_s"`       // 0 without one
	Unacknowledged int64   `json:"unacknowledged"` // published several times in vain
	Rejected       int64   `json:"rejected"`       // by the MES
}

// Queue is how many parts are on their way through the station.
type Queue struct {
	Count    int `json:"count"`
	Capacity int `json:"capacity"`
}

// Disk is the file system of the ledger.
type Disk struct {
	FreeBytes  uint64 `json:"free_bytes"`
	TotalBytes uint64 `json:"total_bytes"`
}

// Counters only grow since the ledger began.
type Counters struct {
	LedgerID string `json:"ledger_id"`
	ledger.Counters
	Session int64 `json:"session"`
}

// with gives every message the session that it is published in.
func (s Snapshot) with(session int64) Snapshot {
	s.States = slices.Clone(s.States)
	for i := range s.States {
		s.States[i].Session = session
	}
	s.Recipe.Session, s.Counters.Session = session, session
	return s
}
