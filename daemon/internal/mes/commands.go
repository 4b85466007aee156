package mes

import (
	"context"
	"fmt"
	"slices"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gladd/daemon/internal/verdict"
)

// commandsWaiting is how many starts of a station may wait for their answer, and
// othersWaiting how many other commands beside them; more are refused at once.
const (
	commandsWaiting = 64
	othersWaiting   = 16
)

var waitingDetail = fmt.Sprintf("%d commands wait for their answer already", commandsWaiting)

// command is a message on a command topic.
type command struct {
	verb     string
	payload  []byte
	received time.Time
}

// receive takes a message from the MQTT library, which must not be held up.
func (c *Client) receive(message mqtt.Message) {
	station := c.stationOf(message.Topic())
	verb := verbOf(message.Topic())
	if message.Retained() {
		// It may be of last year; whoever wants it now sends it now.
		c.options.Log.Warn("retained command ignored; publish commands without the retain flag", "topic", message.Topic())
		return
	}
	queue, known := c.commands[station]
	if !known {
		return
	}
	if !c.admit(station, verb, message.Payload()) {
		return
	}
	// Who starts too much must still be able to halt.
	if isStart(verb) && len(queue) >= commandsWaiting {
		c.refuseAtOnce(station, verb, message.Payload(), verdict.RefusedBusy, waitingDetail)
		return
	}
	select {
	case queue <- command{verb: verb, payload: message.Payload(), received: time.Now()}:
	default:
		c.refuseAtOnce(station, verb, message.Payload(), verdict.RefusedBusy, waitingDetail)
	}
}

// isStart says whether a verb is start, or none that there is: neither may keep the
// others out.
func isStart(verb string) bool {
	return verdict.Verb(verb) == verdict.VerbStart || !slices.Contains(verdict.Verbs, verdict.Verb(verb))
}

// stationOf is the station's name in a command's topic.
func (c *Client) stationOf(topic string) string {
	for _, station := range c.options.Stations {
		if topic == c.topics.station(station.Name(), "cmd/"+verbOf(topic)) {
			return station.Name()
		}
	}
	return ""
}

// answer answers a station's commands, one after the other; but others do not
// wait for a recipe that is being prepared.
func (c *Client) answer(ctx context.Context, station Station) {
	for {
		select {
		case <-ctx.Done():
			return
		case next := <-c.commands[station.Name()]:
			execute := func() {
				c.reply(ctx, station.Name(), next.verb, station.Command(ctx, verdict.Verb(next.verb), next.payload, next.received))
			}
			if verdict.Verb(next.verb) != verdict.VerbPrepare {
				execute()
				continue
			}
			select {
			case c.preparing <- struct{}{}:
				c.done.Go(func() {
					defer func() { <-c.preparing }()
					execute()
				})
			default:
				c.refuseAtOnce(station.Name(), next.verb, next.payload, verdict.RefusedBusy, waitingDetail) //nolint:contextcheck // its reply may outlive this
			}
		}
	}
}

// reply publishes a reply, as well as it can: whoever misses it repeats the
// command with its id and is told the same again.
func (c *Client) reply(ctx context.Context, station, verb string, reply verdict.Reply) {
	connected := c.current()
	if connected == nil {
		return
	}
	payload, err := verdict.JSON(reply)
	if err == nil {
		err = wait(ctx, connected.mqtt.Publish(c.topics.station(station, "cmd/"+verb+"/reply"), qos, false, payload), ackTimeout)
	}
	if err != nil && ctx.Err() == nil {
		c.options.Log.Warn("reply to a command was not published", "station", station, "error", err)
	}
}
