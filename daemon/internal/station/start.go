package station

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"gladd/daemon/internal/verdict"
)

// Start decides on a trigger that came at a time and, if it is accepted,
// records it and sends it on its way. A trigger may bring the file of its
// frame.
func (s *Station) Start(start verdict.Start, received time.Time, file string) verdict.Reply {
	s.starting.Lock()
	defer s.starting.Unlock()
	if start.CommandID != nil {
		first, err := s.options.Ledger.Answered(s.source, *start.CommandID)
		if err != nil {
			return s.refuse(start.CommandID, verdict.RefusedLedger, err.Error())
		}
		if first != nil {
			return *first
		}
	}
	if code, detail := s.decide(start); code != "" {
		return s.refuse(start.CommandID, code, detail)
	}
	return s.accept(start, received, file)
}

// accept records a trigger and sends it on its way.
func (s *Station) accept(start verdict.Start, received time.Time, file string) verdict.Reply {
	accepted := &job{
		draft:     s.draft(start, received),
		triggered: received,
		deadline:  received.Add(s.options.Deadline),
		file:      file,
	}
	reply, repeated, err := s.options.Ledger.Begin(s.source, &accepted.draft)
	s.status.fault(faultLedger, err)
	if err != nil {
		return s.refuse(start.CommandID, verdict.RefusedLedger, "the trigger cannot be recorded: "+err.Error())
	}
	if repeated {
		return reply
	}
	s.refused.over(s.options.Log, s.options.Name)
	s.outstanding.Add(1)
	s.status.setBusy(s.full())
	s.captures <- accepted // as many as there is room for: see decide
	return reply
}

// full says that no further trigger has room: one inspection under way, and
// the queue.
func (s *Station) full() bool { return s.outstanding.Load() > int64(s.options.Queue) }

// decide returns the code of a refusal; empty: the trigger is accepted.
func (s *Station) decide(start verdict.Start) (verdict.RefusalCode, string) {
	now := s.options.Wall()
	switch {
	case start.ExpiresAt != nil && now.After(*start.ExpiresAt):
		return verdict.RefusedExpired, fmt.Sprintf("it expired at %s, and it is %s", verdict.Time{Time: *start.ExpiresAt}, verdict.Time{Time: now})
	case s.stop.Err() != nil:
		return verdict.RefusedNotReady, "gladd is shutting down"
	case !s.status.started():
		return verdict.RefusedNotReady, "the station is starting"
	case s.options.ModelError != nil:
		return verdict.RefusedNotReady, "there is no model: " + s.options.ModelError.Error()
	case start.Recipe != nil && *start.Recipe != s.options.Model.Recipe.Name:
		return verdict.RefusedUnknownRecipe, fmt.Sprintf("expected the active recipe %s, found %q", s.options.Model.Recipe.Name, *start.Recipe)
	case s.full():
		return verdict.RefusedBusy, fmt.Sprintf("%d parts wait already, as many as the queue holds", s.options.Queue)
	}
	return "", ""
}

// Invalid refuses a command that cannot be understood.
func (s *Station) Invalid(commandID *string, cause error) verdict.Reply {
	s.starting.Lock()
	defer s.starting.Unlock()
	return s.refuse(commandID, verdict.RefusedInvalid, cause.Error())
}

func (s *Station) refuse(commandID *string, code verdict.RefusalCode, detail string) verdict.Reply {
	reply, err := s.options.Ledger.Refuse(s.source, verdict.Reply{
		CommandID: commandID,
		Reason:    &verdict.Refusal{Code: code, Detail: detail},
	})
	if err != nil {
		s.status.fault(faultLedger, err)
	}
	s.refused.tell(s.options.Log, s.options.Name, code, detail)
	return reply
}

// draft is the record of a trigger as far as it is known at once.
func (s *Station) draft(start verdict.Start, received time.Time) verdict.Record {
	model := s.options.Model
	record := verdict.Record{
		TriggerID:      ulid.Make().String(),
		CommandID:      start.CommandID,
		LedgerID:       s.options.Ledger.ID(),
		Kind:           "view",
		View:           start.View,
		Attempt:        1,
		MeasurementID:  start.MeasurementID,
		Purpose:        verdict.Production,
		IsSimulated:    s.options.Simulated,
		Evaluation:     verdict.Undefined,
		ResultState:    verdict.Failed,
		ImageThreshold: model.ImageThreshold,
		Recipe:         model.Recipe,
		Bundle:         model.Bundle,
		CalibrationID:  model.CalibrationID,
		Method:         model.Method,
		Camera:         s.options.Camera,
		Context:        start.Context,
		Times:          verdict.Times{Triggered: verdict.Time{Time: s.options.Wall().Add(-time.Since(received))}},
		Clock:          s.options.Clock(),
	}
	if start.PartID != nil {
		byTrigger := "trigger"
		record.Part.ID, record.Part.IDSource = start.PartID, &byTrigger
	}
	if start.Purpose != nil {
		record.Purpose = *start.Purpose
	}
	if record.Context == nil {
		record.Context = []byte("{}")
	}
	return record
}

// Offer triggers with a file, if there is room now. A file with an id that was
// offered before is done already. The result says whether the file is settled;
// if not, it is to be offered again.
func (s *Station) Offer(id, path, rel string) bool {
	s.starting.Lock()
	defer s.starting.Unlock()
	sum := sha256.Sum256([]byte(id))
	command := "file-" + hex.EncodeToString(sum[:16])
	if first, err := s.options.Ledger.Answered(s.source, command); err != nil || first != nil {
		return first != nil
	}
	// Not a refusal: nobody asked but the folder, which waits.
	if code, _ := s.decide(verdict.Start{}); code != "" {
		return false
	}
	context, err := verdict.JSON(map[string]string{"file": strings.ToValidUTF8(rel, "\uFFFD")})
	if err != nil || len(context) > verdict.MaxContextBytes {
		context = nil
	}
	return s.accept(verdict.Start{CommandID: &command, Context: context}, time.Now(), path).Accepted
}
