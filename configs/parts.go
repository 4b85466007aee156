package configs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Part is a part that several stations, or one several times, see views of.
type Part struct {
	Name string `yaml:"name"`
	// Views are its views, and the station of each.
	Views map[string]string `yaml:"views"`
	// Deadline of the part's verdict, from the first view's trigger.
	Deadline Duration `yaml:"deadline"`
	// Attempts is how often the same part may be inspected; 0: without limit.
	Attempts int `yaml:"attempts"`
}

// ViewNames lists the part's views in order; of one station, or of all where
// that is empty.
func (p Part) ViewNames(station string) []string {
	names := []string{}
	for _, view := range slices.Sorted(maps.Keys(p.Views)) {
		if station == "" || p.Views[view] == station {
			names = append(names, view)
		}
	}
	return names
}

// PartOf is the part that a station sees a view of; nil: there is none.
func (c *Config) PartOf(station string) *Part {
	for i := range c.Parts {
		if len(c.Parts[i].ViewNames(station)) > 0 {
			return &c.Parts[i]
		}
	}
	return nil
}

// maxAttempts is beyond what a person means.
const maxAttempts = 1000

func (c *checker) attempts(key string, attempts int) {
	if attempts < 0 || attempts > maxAttempts {
		c.refuse(key, "expected 0 (without limit) to %d, found %d", maxAttempts, attempts)
	}
}

func (c *Config) checkParts(checks *checker) {
	stations := map[string]Station{}
	for _, station := range c.Stations {
		stations[station.Name] = station
	}
	first, taken := map[string]int{}, map[string]string{}
	for i, part := range c.Parts {
		key := fmt.Sprintf("parts.%d.", i)
		other, again := first[part.Name]
		switch _, isStation := stations[part.Name]; {
		case again:
			checks.refuse(key+"name", "expected a name of its own, found %q, which is also parts.%d", part.Name, other)
		case isStation:
			checks.refuse(key+"name", "expected a name of its own, found %q, which is also a station", part.Name)
		default:
			checks.name(key+"name", part.Name)
			first[part.Name] = i
		}
		if len(part.Views) == 0 {
			checks.refuse(key+"views", "expected the part's views and their stations, such as {front: st-01, back: st-02}, found none")
		}
		for _, view := range part.ViewNames("") {
			checks.view(key+"views."+view, part, view, stations, taken)
		}
		if deadline := time.Duration(part.Deadline); deadline < 10*time.Millisecond || deadline > maxDeadline {
			checks.refuse(key+"deadline", "expected 10ms to %s, found %s", maxDeadline, deadline)
		}
		checks.attempts(key+"attempts", part.Attempts)
	}
}

// view checks a view of a part; taken are the parts that have a station.
func (c *checker) view(key string, part Part, view string, stations map[string]Station, taken map[string]string) {
	c.name(key, view)
	name := part.Views[view]
	station, known := stations[name]
	owner, has := taken[name]
	switch {
	case !known:
		c.refuse(key, "expected the name of a station (%s), found %q", strings.Join(slices.Sorted(maps.Keys(stations)), ", "), name)
	case has && owner != part.Name:
		c.refuse(key, "station %s sees views of part %s already; a station belongs to one part", name, owner)
	case station.Trigger.Kind == TriggerInterval || station.Trigger.Kind == TriggerFolder:
		c.refuse(key, "station %s is triggered by %s, which gives no part id; a part of several views needs mqtt or http", name, station.Trigger.Kind)
	}
	taken[name] = part.Name
}
