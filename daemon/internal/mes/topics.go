package mes

import "strings"

// root of all topics, with the version of their contract.
const root = "insp/v1"

// topics names the topics of a box.
type topics struct{ site, line, box string }

// source is the origin of a station's verdicts; its topics begin with it.
func (t topics) source(name string) string { return "/" + t.site + "/" + t.line + "/" + name }

func (t topics) status() string { return root + t.source("_box") + "/" + t.box + "/status" }

func (t topics) station(name, leaf string) string { return root + t.source(name) + "/" + leaf }

// commands of a station, of whatever verb.
func (t topics) commands(name string) string { return t.station(name, "cmd/+") }

// verbOf is the verb of a command's topic.
func verbOf(topic string) string { return topic[strings.LastIndexByte(topic, '/')+1:] }

// ofSource is the topic of a source's verdicts. The source may be a station
// that is configured no more.
func ofSource(source string) string { return root + source + "/verdict" }

// ackOf is the topic of the acknowledgements of a source's verdicts.
func ackOf(source string) string { return root + source + "/ack" }

// sourceOf is the source whose acknowledgements come on a topic.
func sourceOf(topic string) string {
	return strings.TrimSuffix(strings.TrimPrefix(topic, root), "/ack")
}
