package mes

import (
	"encoding/json"
	"fmt"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// When it is thought that the box's name or its client id is taken. MQTT 3.1.1
// does not tell a client why the broker ends its connection.
const (
	// shortConnection is how soon after the login a connection ends that another
	// client may have ended by taking the client id.
	shortConnection = 10 * time.Second
	// shortConnections in a row are no accident.
	shortConnections = 3
	// alarmFor is how long after it was last seen another client is taken to be
	// there.
	alarmFor = 5 * time.Minute
)

// taken finds out whether another client uses the box's name. It is used under
// the client's mutex.
type taken struct {
	said  bool // that the box is online: what others have said since is news
	short int  // connections in a row that the broker ended soon
	alarm *Problem
	until time.Time
}

// current is the alarm; nil: there is none.
func (t *taken) current() *Problem {
	if time.Now().After(t.until) {
		t.alarm = nil
	}
	return t.alarm
}

// raise says whether it was not known before.
func (t *taken) raise(problem *Problem) (news bool) {
	before := t.current()
	t.alarm, t.until = problem, time.Now().Add(alarmFor)
	return before == nil || before.Text != problem.Text
}

// explain finds the reason behind a connection that ended after a time, if
// there is one.
func (t *taken) explain(problem *Problem, clientID string, worked time.Duration) *Problem {
	if problem.Class != ClassBrokerClosed || worked == 0 {
		t.short = 0
		return problem
	}
	if t.short++; worked > shortConnection {
		t.short = 0
	}
	if t.short >= shortConnections {
		problem = &Problem{
			Class: ClassClientIDTaken,
			Text: fmt.Sprintf("connection lost: the broker ended %d connections in a row within %s. Another client with the id %q is the likely cause: give every box a name of its own (key box). "+
				"Or the broker ends connections over topics that it forbids: its log tells", shortConnections, shortConnection, clientID),
			Cause: problem.Cause,
		}
		if t.current() == nil { // what is known is more than what is likely
			t.raise(problem)
		}
	}
	if alarm := t.current(); alarm != nil {
		return alarm
	}
	return problem
}

// hearStatus hears what is said of the box, mostly by itself.
func (c *Client) hearStatus(message mqtt.Message) {
	var heard Status
	if json.Unmarshal(message.Payload(), &heard) != nil || heard.LedgerID == c.options.Ledger.ID() {
		return
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	// A retained message may be of a box that was here before, and so may the
	// goodbye of a connection that the broker gives up only now. But who speaks
	// after this box did is there.
	if heard.Status != statusOnline && !message.Retained() || message.Retained() && !c.taken.said {
		return
	}
	problem := &Problem{
		Class: ClassClientIDTaken,
		Text: fmt.Sprintf("another gladd, with the ledger %q, uses the name of this box, %s, and its client id %q; they throw each other out: give every box a name of its own (key box)",
			heard.LedgerID, c.options.Box, c.clientID()),
	}
	if c.taken.raise(problem) {
		c.options.Log.Error(problem.Text, "class", problem.Class)
	}
}
