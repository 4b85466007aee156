package ledger

import "sync"

// unsettled are the triggers whose records may still be amended; see Finish.
// The record of a part may be as long as those of its views may: each of them
// holds it.
type unsettled struct {
	mutex    sync.Mutex
	triggers map[string]unsettledTrigger // by trigger id
	added    int64                       // since the beginning
}

type unsettledTrigger struct {
	source string
	by     map[string]bool // the trigger ids of those that hold it
}

// add says whether the trigger was unsettled before.
func (u *unsettled) add(source, triggerID string) (before bool) {
	return u.hold(source, triggerID, triggerID)
}

func (u *unsettled) remove(triggerID string) { u.release(triggerID, triggerID) }

// hold makes a trigger unsettled on behalf of another. It says whether that held it
// before.
func (u *unsettled) hold(source, triggerID, by string) (before bool) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if u.triggers == nil {
		u.triggers = map[string]unsettledTrigger{}
	}
	if u.triggers[triggerID].by == nil {
		u.triggers[triggerID] = unsettledTrigger{source: source, by: map[string]bool{}}
	}
	before = u.triggers[triggerID].by[by]
	u.triggers[triggerID].by[by] = true
	u.added++
	return before
}

// release ends a hold.
func (u *unsettled) release(triggerID, by string) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	held := u.triggers[triggerID]
	delete(held.by, by)
	if len(held.by) == 0 {
		delete(u.triggers, triggerID)
	}
}

// read reads records, unless some of those asked for are unsettled. What was
// read while another record came is read again: it may have been that one, on
// its way.
func (u *unsettled) read(asked func(source, triggerID string) bool, read func() error) (settled bool, err error) {
	for {
		before, settled := u.settled(asked)
		if !settled {
			return false, nil
		}
		if err := read(); err != nil {
			return true, err
		}
		if after, settled := u.settled(asked); settled && after == before {
			return true, nil
		}
	}
}

func (u *unsettled) settled(asked func(source, triggerID string) bool) (added int64, settled bool) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	for triggerID, trigger := range u.triggers {
		if asked(trigger.source, triggerID) {
			return u.added, false
		}
	}
	return u.added, true
}
