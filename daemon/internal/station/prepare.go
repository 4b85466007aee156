package station

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"gladd/daemon/internal/verdict"
)

// prepared is a model that a station, its parts under way and the inspections
// that still run hold; the last of them releases it.
type prepared struct {
	Model
	holders atomic.Int64
}

func newPrepared(model Model) *prepared {
	p := &prepared{Model: model}
	p.holders.Store(1)
	return p
}

// hold is for who got the model from one that holds it.
func (p *prepared) hold() { p.holders.Add(1) }

// drop ends a hold.
func (p *prepared) drop() {
	if p.holders.Add(-1) == 0 && p.Release != nil {
		p.Release()
	}
}

// activate has parts that are accepted from now on inspected with a model; nil:
// none. Parts that were accepted before keep theirs.
func (s *Station) activate(model *prepared) {
	before := s.active.Swap(model)
	if before != nil {
		before.drop()
	}
}

// preparation is a recipe that is being prepared.
type preparation struct {
	recipe    string
	commandID *string
	done      chan struct{}
	reply     verdict.Reply // once done
}

// prepare loads a recipe's model beside the one in use, and changes to it between
// two parts.
func (s *Station) prepare(ctx context.Context, command verdict.Command) verdict.Reply {
	s.starting.Lock()
	if reply, answered := s.answered(command); answered {
		s.starting.Unlock()
		return reply
	}
	if running := s.preparing; running != nil {
		if running.commandID == nil || command.CommandID == nil || *running.commandID != *command.CommandID {
			defer s.starting.Unlock()
			return s.refuse(command, verdict.RefusedBusy, fmt.Sprintf("recipe %s is being prepared", running.recipe))
		}
		s.starting.Unlock()
		<-running.done
		return running.reply
	}
	if code, detail := s.allows(command); code != "" {
		defer s.starting.Unlock()
		return s.refuse(command, code, detail)
	}
	under := &preparation{recipe: command.Recipe, commandID: command.CommandID, done: make(chan struct{})}
	s.preparing = under
	resets := s.resets
	s.starting.Unlock()

	model, err := s.load(ctx, command.Recipe)

	s.starting.Lock()
	defer s.starting.Unlock()
	if err == nil && resets != s.resets {
		newPrepared(model).drop()
		under.reply = s.refuse(command, verdict.RefusedNotReady, "the station was reset meanwhile")
	} else {
		under.reply = s.finishPrepare(command, model, err)
	}
	s.preparing = nil
	close(under.done)
	return under.reply
}

// load loads a recipe's model; it ends with the station.
func (s *Station) load(ctx context.Context, recipe string) (model Model, err error) {
	defer func() {
		if caught := recover(); caught != nil {
			model, err = Model{}, errors.New(s.panicked("the loading of a recipe", caught).Detail)
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)() //nolint:contextcheck // the station's end
	if s.options.Prepare == nil {
		return Model{}, fmt.Errorf("%w: expected %s", ErrUnknownRecipe, s.options.Model.Recipe.Name)
	}
	return s.options.Prepare(ctx, recipe)
}

// finishPrepare changes to a model that was loaded, if it was and the station's
// state still allows it.
func (s *Station) finishPrepare(command verdict.Command, model Model, err error) verdict.Reply {
	switch {
	case errors.Is(err, ErrUnknownRecipe):
		return s.refuse(command, verdict.RefusedUnknownRecipe, err.Error())
	case err != nil && s.stop.Err() != nil:
		return s.refuse(command, verdict.RefusedNotReady, errShutdown.Error())
	case err != nil:
		return s.refuse(command, verdict.RefusedModel, err.Error())
	}
	loaded := newPrepared(model)
	if detail := s.forbidden(verdict.VerbPrepare); detail != "" {
		loaded.drop()
		return s.refuse(command, verdict.RefusedNotReady, detail)
	}
	// First what outlives the daemon: it must not inspect with another recipe
	// after a crash than the MES was told.
	reply, repeated, err := s.settle(command, func(memory *Memory) { memory.Recipe = command.Recipe })
	switch {
	case err != nil:
		loaded.drop()
		return s.refuse(command, verdict.RefusedLedger, "which recipe is prepared cannot be recorded: "+err.Error())
	case repeated: // it was refused meanwhile, in a flood
		loaded.drop()
		return reply
	}
	s.use(command.Recipe, loaded)
	return reply
}

// use changes to a recipe's model.
func (s *Station) use(recipe string, model *prepared) {
	s.activate(model)
	s.status.update(func() {
		s.status.prepared = true
		s.status.set(faultModel, nil)
	})
	s.options.Log.Info("recipe prepared", "station", s.options.Name, "recipe", recipe, "version", model.Recipe.Version,
		"bundle", model.Bundle.Name+" "+model.Bundle.Version)
}

// unprepare leaves the station without a recipe.
func (s *Station) unprepare() {
	s.activate(nil)
	s.status.update(func() { s.status.prepared = false })
	s.options.Log.Info("no recipe is prepared any more", "station", s.options.Name)
}
