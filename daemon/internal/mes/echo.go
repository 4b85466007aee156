package mes

import (
	"encoding/json"
	"sync"
	"time"
)

// echo is the box's own status as it comes back from the broker. One that does not
// come shows what MQTT 3.1.1 has no other way to say: the broker takes what the box
// publishes, acknowledges it, and gives it to nobody.
type echo struct {
	mutex sync.Mutex
	since time.Time // when it was asked for; zero: it was not, or it has come
}

// echoTimeout is how long it may take.
const echoTimeout = 10 * time.Second

// unheard is what a missing echo means.
const unheard = "the box's own status does not come back from the broker, as mosquitto does where its acl_file forbids it: verdicts may reach nobody, though the broker takes them; " +
	"allow the box to publish below insp/v1/SITE/LINE/ and to read its status, and look whether the MES gets its verdicts"

func (e *echo) expect() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.since = time.Now()
}

// hear looks whether a status is the box's own, of a session.
func (e *echo) hear(payload []byte, ledgerID string, session int64) {
	var heard Status
	if json.Unmarshal(payload, &heard) != nil || heard.LedgerID != ledgerID || heard.Session != session || heard.Status != statusOnline {
		return
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.since = time.Time{}
}

// missing says that the echo should have come.
func (e *echo) missing() bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return !e.since.IsZero() && time.Since(e.since) > echoTimeout
}
