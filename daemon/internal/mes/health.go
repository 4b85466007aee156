package mes

import (
	"errors"
	"time"

	"gladd/daemon/internal/verdict"
)

// Connected says whether there is a connection, and why not.
func (c *Client) Connected() (bool, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.problem == nil {
		return c.connection != nil, nil
	}
	return c.connection != nil, c.problem
}

// Connection describes the connection to the broker.
type Connection struct {
	Connected bool         `json:"connected"`
	Class     *Class       `json:"class"`    // of what is wrong; null: nothing is
	Reason    *string      `json:"reason"`   // the same in words
	Since     verdict.Time `json:"since"`    // when the connection came to be, or was lost
	Attempts  int          `json:"attempts"` // that failed since
	Warnings  []string     `json:"warnings"` // of what will go wrong
}

// Connection describes the connection to the broker.
func (c *Client) Connection() Connection {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	described := Connection{Connected: c.connection != nil, Since: verdict.Time{Time: c.since}, Attempts: c.attempts, Warnings: c.renewal.warnings()}
	problem := c.problem
	if described.Connected {
		problem = c.taken.current()
		if c.connection.echo.missing() {
			described.Warnings = append(described.Warnings, unheard)
		}
	}
	if problem != nil {
		reason := problem.Error()
		described.Class, described.Reason = &problem.Class, &reason
	}
	return described
}

// connected notes that the box is online, and returns what is wrong all the
// same.
func (c *Client) connected(connection *connection) *Problem {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.connection, c.problem = connection, nil
	c.since, c.attempts = c.wall(), 0
	c.taken.said = true
	return c.taken.current()
}

// disconnected notes why the box is not online. The broker had it logged in for
// a time.
func (c *Client) disconnected(err error, worked time.Duration) {
	problem := &Problem{Class: ClassClosed, Text: "closed"}
	known := errors.As(err, &problem)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.connection != nil {
		c.since = c.wall()
	}
	if known && problem.Class != ClassConnecting {
		c.attempts++
		problem = c.taken.explain(problem, c.clientID(), worked)
	}
	c.connection, c.problem = nil, problem
}

func (c *Client) whyNot() *Problem {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.problem
}
