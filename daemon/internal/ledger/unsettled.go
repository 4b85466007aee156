package ledger

import "sync"

// unsettled are the triggers whose records may still be amended; see Finish.
type unsettled struct {
	mutex    sync.Mutex
	triggers map[string]string // source by trigger id
}

func (u *unsettled) add(source, triggerID string) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if u.triggers == nil {
		u.triggers = map[string]string{}
	}
	u.triggers[triggerID] = source
}

func (u *unsettled) remove(triggerID string) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	delete(u.triggers, triggerID)
}

func (u *unsettled) has(triggerID string) bool {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	_, found := u.triggers[triggerID]
	return found
}

// any says whether a source has such a trigger.
func (u *unsettled) any(source string) bool {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	for _, other := range u.triggers {
		if other == source {
			return true
		}
	}
	return false
}
