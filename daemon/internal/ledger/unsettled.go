package ledger

import "sync"

// unsettled are the triggers whose records may still be amended; see Finish.
type unsettled struct {
	mutex    sync.Mutex
	triggers map[string]string // source by trigger id
	added    int64             // since the beginning
}

func (u *unsettled) add(source, triggerID string) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if u.triggers == nil {
		u.triggers = map[string]string{}
	}
	u.triggers[triggerID] = source
	u.added++
}

func (u *unsettled) remove(triggerID string) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	delete(u.triggers, triggerID)
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
	for triggerID, source := range u.triggers {
		if asked(source, triggerID) {
			return u.added, false
		}
	}
	return u.added, true
}
