package main

import (
	"fmt"
	"strings"
	"testing"

	"gladd/daemon/internal/mes/mestest"
	"gladd/docs/schemas/schematest"
)

// A daemon at work publishes on every channel of docs/asyncapi.yaml that it is
// said to publish on, and takes every command. That each message is as its
// schema says, and that there are no others, the listener looks at.
func TestEveryChannel(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	p := start(t, newSite(t, broker.URL()).config(oneStation))
	listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
	mes := commander{t, listener}
	channels, err := schematest.Channels()
	if err != nil {
		t.Fatal(err)
	}
	mes.obey("start", `{"part_id":"P-1","command_id":"c-1","context":{"shift":2}}`)
	event := listener.Wait("st-01/verdict", mestest.Count(1))[0].JSON(t)
	listener.Send(topic01+"ack", fmt.Sprintf(`{"result_id":%q,"status":"accepted"}`, event["id"]), false)
	for verb, more := range map[string]string{"prepare": `,"recipe":"r"`, "unprepare": "", "stop": "", "abort": "", "halt": "", "reset": ""} {
		// Whether its state allows it is not asked here.
		if reply := mes.send(verb, `{"command_id":"c-`+verb+`"`+more+`}`); reply["command_id"] != "c-"+verb || strings.Contains(fmt.Sprint(reply), "invalid") {
			t.Errorf("%s: found %v", verb, reply)
		}
	}
	for name, channel := range channels {
		topic := strings.NewReplacer("{site}", "p", "{line}", "l", "{box}", "box-1", "{station}", "st-01").Replace(channel.Address)
		if channel.Sent {
			listener.Wait(topic, mestest.Count(1))
		} else if len(listener.Messages(topic)) == 0 {
			t.Errorf("%s: the test sends nothing on %s", name, topic)
		}
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
}
