package station

import (
	"fmt"
	"slices"
	"strings"

	"gladd/daemon/internal/verdict"
)

// State is a station's state, in the words of OPC 40100-1, 8.2.6 and 8.3.3.
type State string

// The states. The last four are the steps of Operational.
const (
	Preoperational      State = "Preoperational"      // starting, at the daemon's start and after a reset
	Halted              State = "Halted"              // takes no command but reset; or the daemon has ended
	Error               State = "Error"               // something is broken; the reason says what
	Initialized         State = "Initialized"         // works, and has no recipe
	Ready               State = "Ready"               // takes a trigger
	SingleExecution     State = "SingleExecution"     // inspects, and has no room for a trigger
	ContinuousExecution State = "ContinuousExecution" // triggers by itself
)

// States are all that there are.
var States = []State{Preoperational, Halted, Error, Initialized, Ready, SingleExecution, ContinuousExecution}

// Transition leads from a state to another.
type Transition struct {
	From, To State
	Cause    string // a verb, or what happens by itself
}

// transitions are those of OPC 40100-1, tables 84 and 99, with Operational
// resolved into its steps. A station goes from state to state by these only.
var transitions = []Transition{
	{Preoperational, Initialized, "started"},
	{Preoperational, Error, "a fault"},
	{Preoperational, Halted, "halt; the daemon ends"},
	{Halted, Preoperational, "reset"},
	{Error, Preoperational, "reset"},
	{Error, Halted, "halt; the daemon ends"},
	{Error, Initialized, "the fault is over"},
	{Error, Ready, "the fault is over"},
	{Error, SingleExecution, "the fault is over"},
	{Error, ContinuousExecution, "the fault is over"},
	{Initialized, Ready, "prepare; the recipe of the configuration"},
	{Initialized, Preoperational, "reset"},
	{Initialized, Error, "a fault"},
	{Initialized, Halted, "halt; the daemon ends"},
	{Ready, SingleExecution, "start, and no room is left"},
	{Ready, ContinuousExecution, "start with continuous; the configuration's trigger"},
	{Ready, Initialized, "unprepare"},
	{Ready, Preoperational, "reset"},
	{Ready, Error, "a fault"},
	{Ready, Halted, "halt; the daemon ends"},
	{SingleExecution, Ready, "there is room again; stop; abort"},
	{SingleExecution, Preoperational, "reset"},
	{SingleExecution, Error, "a fault"},
	{SingleExecution, Halted, "halt; the daemon ends"},
	{ContinuousExecution, Ready, "stop; abort"},
	{ContinuousExecution, Preoperational, "reset"},
	{ContinuousExecution, Error, "a fault"},
	{ContinuousExecution, Halted, "halt; the daemon ends"},
}

// Allowed says whether a station may go from a state to another at once.
func Allowed(from, to State) bool {
	return slices.ContainsFunc(transitions, func(t Transition) bool { return t.From == from && t.To == to })
}

// way is the shortest way from a state to another by allowed transitions, the
// first left out. It does not lead through Error or Halted, where nothing is wrong.
func way(from, to State) []State {
	if from == to {
		return nil
	}
	ways := [][]State{{from}}
	seen := map[State]bool{from: true}
	for len(ways) > 0 {
		path := ways[0]
		ways = ways[1:]
		for _, next := range States {
			if seen[next] || !Allowed(path[len(path)-1], next) || next != to && (next == Error || next == Halted) {
				continue
			}
			seen[next] = true
			longer := append(slices.Clone(path), next)
			if next == to {
				return longer[1:]
			}
			ways = append(ways, longer)
		}
	}
	return []State{to} // not reached: every state leads to every other
}

// executable are the states in which a verb can be executed. Beyond them, in an
// Error whose reason is the camera, a start is accepted and gives Undefined (every
// part gets its verdict), and stop, abort and prepare are possible; prepare mends an
// Error whose reason is the recipe; and a start in one whose reason is the ledger
// tries whether it can be recorded again. A station with a queue is Ready while
// parts are under way, so that abort is possible there too.
var executable = map[verdict.Verb][]State{
	verdict.VerbStart:     {Ready, SingleExecution},
	verdict.VerbPrepare:   {Initialized, Ready, SingleExecution, ContinuousExecution},
	verdict.VerbUnprepare: {Ready},
	verdict.VerbStop:      {SingleExecution, ContinuousExecution},
	verdict.VerbAbort:     {Ready, SingleExecution, ContinuousExecution},
	verdict.VerbHalt:      {Preoperational, Error, Initialized, Ready, SingleExecution, ContinuousExecution},
	verdict.VerbReset:     States,
}

// forbidden says why a state forbids a verb; empty: it does not.
func forbidden(verb verdict.Verb, status Status, of fault) string {
	allowed := executable[verb]
	switch {
	case slices.Contains(allowed, status.State):
		return ""
	case status.State != Error:
	case verb == verdict.VerbPrepare && (of == faultModel || ofCamera(of)),
		verb == verdict.VerbStart && (ofCamera(of) || of == faultLedger),
		(verb == verdict.VerbStop || verb == verdict.VerbAbort) && ofCamera(of):
		return ""
	}
	words := fmt.Sprintf("the station is %s", status.State)
	if status.Reason != "" {
		words += " (" + status.Reason + ")"
	}
	return words + "; " + string(verb) + " needs " + list(allowed)
}

func ofCamera(kind fault) bool { return kind == faultCamera || kind == faultFinished }

func list(states []State) string {
	return listed(states, "")
}

// listed is a list with a quote around each word.
func listed(states []State, quote string) string {
	words := make([]string, len(states))
	for i, state := range states {
		words[i] = quote + string(state) + quote
	}
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " or " + words[last]
	}
	return words[0]
}

// StatesTable is the state machine in Markdown, for the documentation: its
// transitions, and the states in which each command is possible.
func StatesTable() string {
	var table strings.Builder
	table.WriteString("| from | to | by |\n|---|---|---|\n")
	for _, each := range transitions {
		fmt.Fprintf(&table, "| `%s` | `%s` | %s |\n", each.From, each.To, each.Cause)
	}
	table.WriteString("\n| command | possible in |\n|---|---|\n")
	for _, verb := range verdict.Verbs {
		states := listed(executable[verb], "`")
		switch verb {
		case verdict.VerbReset:
			states = "every state"
		case verdict.VerbStart:
			states += " (refused there: `busy`); or `Error`, where the camera is the reason: the part becomes `Undefined`; or the ledger: refused, `ledger`, as long as nothing can be recorded"
		case verdict.VerbPrepare:
			states += "; or `Error`, where the recipe or the camera is the reason"
		case verdict.VerbStop, verdict.VerbAbort:
			states += "; or `Error`, where the camera is the reason"
		}
		fmt.Fprintf(&table, "| `%s` | %s |\n", verb, states)
	}
	return table.String()
}
