package mes

import (
	"context"

	"gladd/daemon/internal/verdict"
)

// Acquired tells that the frame of a trigger was taken: the part may move on.
type Acquired struct {
	TriggerID string       `json:"trigger_id"`
	CommandID *string      `json:"command_id"`
	PartID    *string      `json:"part_id"`
	View      *string      `json:"view"`
	Captured  verdict.Time `json:"captured"`
}

// acquiredWaiting is how many of these messages wait for the broker at most;
// older news than that is of no use.
const acquiredWaiting = 64

// acquired is a message on its way, of a station.
type acquired struct {
	station string
	message Acquired
}

// Acquired publishes that a station's frame was taken, as well as it can: what
// counts is the verdict. It does not block.
func (c *Client) Acquired(station string, message Acquired) {
	select {
	case c.acquired <- acquired{station, message}:
	default:
	}
}

func (c *Client) publishAcquired(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case next := <-c.acquired:
			connected := c.current()
			if connected == nil {
				continue
			}
			payload, err := verdict.JSON(next.message)
			if err == nil {
				err = wait(ctx, connected.mqtt.Publish(c.topics.station(next.station, "acquired"), qos, false, payload), ackTimeout)
			}
			if err != nil && ctx.Err() == nil {
				c.options.Log.Debug("acquired was not published", "station", next.station, "error", err)
			}
		}
	}
}
