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
	command := verdict.Command{Verb: verdict.VerbStart, CommandID: start.CommandID}
	if reply, answered := s.answered(command); answered {
		return reply
	}
	if err := s.options.Part.choose(&start); err != nil {
		return s.refuse(command, verdict.RefusedInvalid, err.Error())
	}
	if s.options.ByFile && file == "" {
		return s.refuse(command, verdict.RefusedInvalid, `the station inspects the pictures that come into its folder; a start must be {"continuous": true}`)
	}
	if code, detail := s.decide(start); code != "" {
		return s.refuse(command, code, detail)
	}
	return s.accept(start, received, file)
}

// Trigger triggers a station that triggers by itself, if it does so now. There is
// nobody to be told of a refusal, but it is counted.
func (s *Station) Trigger(received time.Time) {
	s.starting.Lock()
	defer s.starting.Unlock()
	if !s.triggers() {
		return
	}
	if s.full() {
		s.refuse(verdict.Command{}, verdict.RefusedBusy, s.fullDetail())
		return
	}
	s.accept(verdict.Start{}, received, "")
}

// triggers says whether the station may trigger by itself now. A camera that
// fails, or a full disk, is tried all the same.
func (s *Station) triggers() bool {
	status, kind := s.status.now()
	continues := status.State == ContinuousExecution || status.State == Error && (kind == faultCamera || kind == faultLedger)
	return continues && s.status.isContinuous() && s.active.Load() != nil && s.stop.Err() == nil
}

// accept records a trigger and sends it on its way.
func (s *Station) accept(start verdict.Start, received time.Time, file string) verdict.Reply {
	model := s.active.Load()
	accepted := &job{
		model:     model,
		underWay:  s.underWay,
		draft:     s.draft(start, received, model),
		triggered: received,
		deadline:  received.Add(s.options.Deadline),
		file:      file,
	}
	reply, repeated, err := s.begin(accepted)
	s.status.fault(faultLedger, err)
	if err != nil {
		return s.refuse(verdict.Command{Verb: verdict.VerbStart, CommandID: start.CommandID}, verdict.RefusedLedger, "the trigger cannot be recorded: "+err.Error())
	}
	if repeated {
		return reply
	}
	if !reply.Accepted { // the ledger counted the attempts, and has counted this
		s.refused.tell(s.options.Log, s.options.Name, reply.Reason.Code, reply.Reason.Detail)
		return reply
	}
	s.refused.over(s.options.Log, s.options.Name)
	model.hold()
	s.outstanding.Add(1)
	s.status.update(func() { s.status.busy = s.full() })
	s.captures <- accepted // as many as there is room for: see decide
	return reply
}

// full says that no further trigger has room: one inspection under way, and
// the queue.
func (s *Station) full() bool { return s.outstanding.Load() > int64(s.options.Queue) }

// decide returns the code of a refusal; empty: the trigger is accepted.
func (s *Station) decide(start verdict.Start) (verdict.RefusalCode, string) {
	if code, detail := s.tooLate(start.ExpiresAt); code != "" {
		return code, detail
	}
	if detail := s.forbidden(verdict.VerbStart); detail != "" {
		return verdict.RefusedNotReady, detail
	}
	model := s.active.Load()
	switch {
	case model == nil:
		return verdict.RefusedNotReady, "no recipe is prepared"
	case s.notPrepared(start) != "":
		return verdict.RefusedUnknownRecipe, s.notPrepared(start)
	case s.full():
		return verdict.RefusedBusy, s.fullDetail()
	}
	return "", ""
}

// notPrepared says that a start names another recipe than the one that is
// prepared; empty: it does not.
func (s *Station) notPrepared(start verdict.Start) string {
	if active := s.Model().Recipe.Name; start.Recipe != nil && *start.Recipe != active {
		return fmt.Sprintf("recipe %s is not prepared; %s is", *start.Recipe, active)
	}
	return ""
}

func (s *Station) fullDetail() string {
	return fmt.Sprintf("%d parts wait already, as many as the queue holds", s.options.Queue)
}

// invalid refuses a command that cannot be understood.
func (s *Station) invalid(command verdict.Command, cause error) verdict.Reply {
	s.starting.Lock()
	defer s.starting.Unlock()
	return s.refuse(command, verdict.RefusedInvalid, cause.Error())
}

func (s *Station) refuse(command verdict.Command, code verdict.RefusalCode, detail string) verdict.Reply {
	reply := verdict.Reply{
		Verb:      command.Verb,
		CommandID: command.CommandID,
		Reason:    &verdict.Refusal{Code: code, Detail: detail},
	}
	if code == verdict.RefusedLedger { // not kept under its id, even if that is possible now: it may be repeated
		s.options.Ledger.CountRefusal(s.source, code)
	} else {
		var err error
		if reply, err = s.options.Ledger.Refuse(s.source, reply); err != nil {
			s.status.fault(faultLedger, err)
		}
	}
	s.refused.tell(s.options.Log, s.options.Name, code, detail)
	return reply
}

// draft is the record of a trigger as far as it is known at once.
func (s *Station) draft(start verdict.Start, received time.Time, model *prepared) verdict.Record {
	record := verdict.Record{
		TriggerID:      ulid.Make().String(),
		CommandID:      start.CommandID,
		LedgerID:       s.options.Ledger.ID(),
		Kind:           verdict.KindView,
		View:           start.View,
		Part:           fieldsOf(start),
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
	if first, err := s.options.Ledger.Answered(s.source, verdict.VerbStart, command); err != nil || first != nil {
		return first != nil
	}
	// Not a refusal: nobody asked but the folder, which waits.
	if !s.triggers() || s.full() {
		return false
	}
	context, err := verdict.JSON(map[string]string{"file": strings.ToValidUTF8(rel, "\uFFFD")})
	if err != nil || len(context) > verdict.MaxContextBytes {
		context = nil
	}
	return s.accept(verdict.Start{CommandID: &command, Context: context}, time.Now(), path).Accepted
}
