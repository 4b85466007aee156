package station

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gladd/daemon/internal/verdict"
)

// Command decides on a command that came at a time, does what it says, and
// returns its reply. It returns when that is done: a prepare takes as long as the
// recipe's model takes to load.
func (s *Station) Command(ctx context.Context, verb verdict.Verb, payload []byte, received time.Time) verdict.Reply {
	command, err := verdict.ParseCommand(verb, payload)
	if err != nil {
		return s.invalid(command, err)
	}
	switch verb {
	case verdict.VerbStart:
		if command.Start.IsContinuous() {
			return s.execute(command) //nolint:contextcheck // see below
		}
		return s.Start(command.Start, received, "")
	case verdict.VerbPrepare:
		return s.prepare(ctx, command)
	}
	return s.execute(command) //nolint:contextcheck // a reset goes on behind its reply
}

// execute does what a command says that takes no time.
func (s *Station) execute(command verdict.Command) verdict.Reply {
	s.starting.Lock()
	defer s.starting.Unlock()
	if reply, answered := s.answered(command); answered {
		return reply
	}
	if code, detail := s.allows(command); code != "" {
		return s.refuse(command, code, detail)
	}
	// First the reply: a command is not done twice, nor left undone by a crash. What
	// ends something is done even if that cannot be recorded.
	reply, repeated, err := s.settle(command, func(memory *Memory) { memory.after(command.Verb, s.options.Continuous) })
	switch {
	case err != nil && (command.Verb == verdict.VerbUnprepare || command.Verb == verdict.VerbStart):
		return s.refuse(command, verdict.RefusedLedger, "the command cannot be recorded: "+err.Error())
	case err != nil:
		s.memory.after(command.Verb, s.options.Continuous) // and kept when that is possible
		s.remember(reply)
	case repeated:
		return reply
	}
	switch command.Verb {
	case verdict.VerbStart:
		s.status.update(func() { s.status.continuous = true })
	case verdict.VerbUnprepare:
		s.unprepare()
	case verdict.VerbStop:
		s.status.update(func() { s.status.continuous = false })
	case verdict.VerbAbort:
		s.abort("abort", func() {})
	case verdict.VerbHalt:
		s.abort("halt", func() { s.status.halted = true })
	case verdict.VerbReset:
		s.reset()
	}
	s.options.Log.Info("command executed", "station", s.options.Name, "command", string(command.Verb))
	return reply
}

// answered returns the first reply to a command that was answered before.
func (s *Station) answered(command verdict.Command) (verdict.Reply, bool) {
	if command.CommandID == nil {
		return verdict.Reply{}, false
	}
	if reply, untold := s.untold[*command.CommandID]; untold && reply.Verb == command.Verb {
		return reply, true
	}
	first, err := s.options.Ledger.Answered(s.source, command.Verb, *command.CommandID)
	if err != nil {
		return s.refuse(command, verdict.RefusedLedger, err.Error()), true
	}
	if first == nil {
		return verdict.Reply{}, false
	}
	return *first, true
}

// settle keeps the reply to a command that is about to be done, and what it makes of
// the station's memory, together.
func (s *Station) settle(command verdict.Command, change func(*Memory)) (reply verdict.Reply, repeated bool, err error) {
	memory, key, value := s.memory, "", ""
	if change(&memory); memory != s.kept {
		key = memoryKey(s.source)
		if value, err = memory.encoded(); err != nil {
			return reply, false, err
		}
	}
	reply = verdict.Reply{Verb: command.Verb, CommandID: command.CommandID, Accepted: true}
	first, repeated, err := s.options.Ledger.Accept(s.source, reply, key, value)
	switch {
	case err != nil:
		s.status.fault(faultLedger, err)
		return reply, false, err
	case repeated:
		return first, true, nil
	}
	s.memory, s.kept = memory, memory
	return reply, false, nil
}

// keepMemory keeps what a command made of the memory while the ledger could not: a
// station that a person halted is halted after a restart, too.
func (s *Station) keepMemory() {
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.memory == s.kept {
		return
	}
	if err := s.memory.Keep(s.options.Ledger, s.source); err != nil {
		s.status.fault(faultLedger, err)
		return
	}
	s.kept = s.memory
}

// maxUntold is how many replies are remembered that the ledger could not keep.
const maxUntold = 100

// remember notes a reply that the ledger could not keep: a repeated command is not
// done twice, as far as that can be seen to.
func (s *Station) remember(reply verdict.Reply) {
	if reply.CommandID == nil {
		return
	}
	if len(s.untold) >= maxUntold {
		clear(s.untold)
	}
	s.untold[*reply.CommandID] = reply
}

// allows returns the code of a refusal; empty: the command may be executed.
func (s *Station) allows(command verdict.Command) (verdict.RefusalCode, string) {
	if code, detail := s.tooLate(command.ExpiresAt); code != "" {
		return code, detail
	}
	if command.Verb == verdict.VerbStart { // a continuous one
		if !s.options.Continuous {
			return verdict.RefusedInvalid, "continuous: the station has no trigger of its own (trigger: {kind: interval} or folder); leave the key out to inspect one part"
		}
		if status, _ := s.status.now(); status.State == SingleExecution {
			return verdict.RefusedNotReady, "the station is SingleExecution; a continuous start needs Ready"
		}
		if detail := s.notPrepared(command.Start); detail != "" {
			return verdict.RefusedUnknownRecipe, detail
		}
	}
	if detail := s.forbidden(command.Verb); detail != "" {
		return verdict.RefusedNotReady, detail
	}
	return "", ""
}

// forbidden says why the station's state forbids a verb; empty: it does not.
func (s *Station) forbidden(verb verdict.Verb) string {
	status, kind := s.status.now()
	return forbidden(verb, status, kind)
}

// tooLate refuses a command that has expired, or that comes at the daemon's end.
func (s *Station) tooLate(expiresAt *time.Time) (verdict.RefusalCode, string) {
	switch now := s.options.Wall(); {
	case expiresAt != nil && now.After(*expiresAt):
		return verdict.RefusedExpired, fmt.Sprintf("it expired at %s, and it is %s", verdict.Time{Time: *expiresAt}, verdict.Time{Time: now})
	case s.stop.Err() != nil:
		return verdict.RefusedNotReady, "gladd is shutting down"
	}
	return "", ""
}

// underWay is what abort ends: the parts that were accepted since the last one.
type underWay struct {
	context.Context
	end context.CancelCauseFunc
}

func newUnderWay() *underWay {
	ctx, end := context.WithCancelCause(context.Background())
	return &underWay{ctx, end}
}

// aborted says that and why the parts were aborted; nil: they were not.
func (u *underWay) aborted() *verdict.Reason {
	if u.Err() == nil {
		return nil
	}
	return &verdict.Reason{Code: verdict.ReasonAborted, Detail: context.Cause(u).Error()}
}

// abort ends everything that is under way; it becomes Undefined. What else changes
// does so at once: no state in between is seen.
func (s *Station) abort(verb string, change func()) {
	s.ending.Lock()
	s.underWay.end(errors.New("ended by the command " + verb))
	s.ending.Unlock()
	s.underWay = newUnderWay()
	s.status.update(func() {
		s.status.continuous = false
		change()
	})
}

// after is what a verb makes of the memory of a station that triggers by itself, or
// does not.
func (m *Memory) after(verb verdict.Verb, continuous bool) {
	switch verb {
	case verdict.VerbStart:
		m.Stopped = false
	case verdict.VerbUnprepare:
		m.Recipe = ""
	case verdict.VerbStop, verdict.VerbAbort:
		m.Stopped = continuous
	case verdict.VerbHalt:
		m.Halted = true
	case verdict.VerbReset:
		m.Halted, m.Stopped = false, false
	}
}

// reset begins anew: no trouble is remembered, what was not there is looked for
// again.
func (s *Station) reset() {
	if !s.ran.Load() {
		return // it is about to begin
	}
	s.abort("reset", func() { s.status.started, s.status.halted = false, false })
	if s.status.of(faultCamera) != nil || s.status.of(faultFinished) != nil {
		s.camera.again()
	}
	failed := s.status.of(faultModel) != nil
	recipe := s.memory.Recipe
	s.resets++
	number := s.resets
	go func() {
		_, cameraFault := s.camera.get()
		var model Model
		var modelFault error
		if failed {
			model, modelFault = s.load(context.Background(), recipe)
		}
		s.starting.Lock()
		defer s.starting.Unlock()
		if number != s.resets || s.stop.Err() != nil { // another reset came meanwhile, or the end
			newPrepared(model).drop()
			return
		}
		if failed && modelFault == nil {
			s.use(recipe, newPrepared(model))
		}
		s.status.update(func() {
			s.status.set(faultCamera, cameraFault)
			s.status.set(faultFinished, nil)
			s.status.set(faultModel, modelFault)
			s.status.started = true
			s.status.continuous = s.options.Continuous
		})
	}()
}
