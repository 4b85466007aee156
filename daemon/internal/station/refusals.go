package station

import (
	"log/slog"

	"gladd/daemon/internal/verdict"
)

// refusalLog tells of refusals: the first of a row, and how many there were
// when a trigger is accepted again. A line that triggers too fast would fill
// the log otherwise. It is used under Station.starting.
type refusalLog struct {
	code  verdict.RefusalCode // of the row; empty: there is none
	count int
}

func (r *refusalLog) tell(log *slog.Logger, station string, code verdict.RefusalCode, detail string) {
	if code == r.code {
		r.count++
		return
	}
	r.over(log, station)
	r.code, r.count = code, 1
	log.Warn("trigger refused", "station", station, "reason", code, "detail", detail)
}

// over ends a row.
func (r *refusalLog) over(log *slog.Logger, station string) {
	if r.count > 1 {
		log.Warn("triggers were refused", "station", station, "reason", r.code, "count", r.count)
	}
	*r = refusalLog{}
}
