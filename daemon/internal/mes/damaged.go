package mes

import "sync"

// damaged are the results that cannot be sent, as their records cannot be read. They
// stay in the outbox.
type damaged struct {
	mutex sync.Mutex
	ids   map[string]bool
}

// add says whether it was not known before.
func (d *damaged) add(resultID string) (news bool) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.ids == nil {
		d.ids = map[string]bool{}
	}
	news = !d.ids[resultID]
	d.ids[resultID] = true
	return news
}

func (d *damaged) has(resultID string) bool {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.ids[resultID]
}

func (d *damaged) count() int64 {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return int64(len(d.ids))
}
