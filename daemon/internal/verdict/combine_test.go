package verdict_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gladd/daemon/internal/verdict"
)

// view is a view's result; a code of nothing is OK.
func view(name string, code verdict.ReasonCode) verdict.ViewResult {
	record := &verdict.Record{ResultID: "id-" + name, Evaluation: verdict.Undefined}
	switch code {
	case "":
		record.Evaluation = verdict.OK
	case verdict.ReasonAnomaly:
		record.Evaluation = verdict.NotOK
	case verdict.ReasonGuardBand:
		record.Evaluation = verdict.NotDecidable
	}
	if code != "" {
		record.Reason = &verdict.Reason{Code: code, Detail: "detail of " + name}
	}
	record.ResultState = verdict.StateOf(record.Evaluation, record.Reason)
	return verdict.ViewResult{View: name, Record: record}
}

func missing(name string) verdict.ViewResult { return verdict.ViewResult{View: name} }

func TestCombine(t *testing.T) {
	const (
		ok     = verdict.ReasonCode("")
		notOK  = verdict.ReasonAnomaly
		guard  = verdict.ReasonGuardBand
		camera = verdict.ReasonCamera
	)
	for name, test := range map[string]struct {
		views []verdict.ViewResult
		want  string // evaluation, state, partial, reason
	}{
		"one view":            {[]verdict.ViewResult{view("a", ok)}, "OK completed false"},
		"all OK":              {[]verdict.ViewResult{view("a", ok), view("b", ok), view("c", ok)}, "OK completed false"},
		"one NotOK":           {[]verdict.ViewResult{view("a", ok), view("b", notOK), view("c", ok)}, "NotOK completed false anomaly b: detail of b"},
		"two NotOK":           {[]verdict.ViewResult{view("a", ok), view("b", notOK), view("c", notOK)}, "NotOK completed false anomaly b: detail of b"},
		"NotOK, Undefined":    {[]verdict.ViewResult{view("a", camera), view("b", notOK)}, "NotOK completed false anomaly b: detail of b"},
		"NotOK, undecidable":  {[]verdict.ViewResult{view("a", guard), view("b", notOK)}, "NotOK completed false anomaly b: detail of b"},
		"NotOK, missing":      {[]verdict.ViewResult{missing("a"), view("b", notOK), missing("c")}, "NotOK completed true anomaly b: detail of b; no result by the part's deadline: a, c"},
		"Undefined, OK":       {[]verdict.ViewResult{view("a", ok), view("b", camera)}, "Undefined failed false camera b: detail of b"},
		"Undefined, guard":    {[]verdict.ViewResult{view("a", guard), view("b", camera)}, "Undefined failed false camera b: detail of b"},
		"Undefined, missing":  {[]verdict.ViewResult{view("a", camera), missing("b")}, "Undefined failed true camera a: detail of a; no result by the part's deadline: b"},
		"missing, Undefined":  {[]verdict.ViewResult{missing("a"), view("b", camera)}, "Undefined failed true deadline a: no result by the part's deadline"},
		"missing, OK":         {[]verdict.ViewResult{view("a", ok), missing("b")}, "Undefined failed true deadline b: no result by the part's deadline"},
		"missing, guard":      {[]verdict.ViewResult{view("a", guard), missing("b")}, "Undefined failed true deadline b: no result by the part's deadline"},
		"all missing":         {[]verdict.ViewResult{missing("a"), missing("b")}, "Undefined failed true deadline a, b: no result by the part's deadline"},
		"guard, OK":           {[]verdict.ViewResult{view("a", ok), view("b", guard)}, "NotDecidable completed false guard-band b: detail of b"},
		"restarted":           {[]verdict.ViewResult{view("a", verdict.ReasonRestarted), view("b", ok)}, "Undefined aborted false restarted a: detail of a"},
		"uncalibrated":        {[]verdict.ViewResult{view("a", verdict.ReasonUncalibrated), view("b", ok)}, "Undefined completed false uncalibrated a: detail of a"},
		"uncalibrated, fault": {[]verdict.ViewResult{view("a", verdict.ReasonUncalibrated), view("b", camera)}, "Undefined failed false uncalibrated a: detail of a"},
		"no views":            {nil, "Undefined failed false internal the part has no views"},
	} {
		// What was there before, as of a combination that is done anew, must not matter.
		part := verdict.Record{Evaluation: verdict.NotOK, Reason: &verdict.Reason{Code: "old"}, IsPartial: true, SourceResultIDs: []string{"old"}}
		verdict.Combine(&part, test.views)
		found := fmt.Sprint(part.Evaluation, " ", part.ResultState, " ", part.IsPartial)
		if part.Reason != nil {
			found += fmt.Sprint(" ", part.Reason.Code, " ", part.Reason.Detail)
		}
		if found != test.want || (part.Evaluation == verdict.OK) != (part.Reason == nil) {
			t.Errorf("%s: want  %s\nfound %s", name, test.want, found)
		}
		ids := []string{}
		for _, each := range test.views {
			if each.Record != nil {
				ids = append(ids, each.Record.ResultID)
			}
		}
		if !slices.Equal(part.SourceResultIDs, ids) || part.SourceResultIDs == nil || *part.ViewsExpected != len(test.views) {
			t.Errorf("%s: found %v of %d", name, part.SourceResultIDs, *part.ViewsExpected)
		}
	}
}

// Whatever the views are and however many: OK is nothing but all OK.
func TestCombineIsOKOnlyWhereAllViewsAre(t *testing.T) {
	kinds := []func(string) verdict.ViewResult{
		missing,
		func(name string) verdict.ViewResult { return view(name, "") },
		func(name string) verdict.ViewResult { return view(name, verdict.ReasonAnomaly) },
		func(name string) verdict.ViewResult { return view(name, verdict.ReasonGuardBand) },
		func(name string) verdict.ViewResult { return view(name, verdict.ReasonShutdown) },
	}
	for number := range 5 * 5 * 5 {
		views := []verdict.ViewResult{kinds[number%5]("a"), kinds[number/5%5]("b"), kinds[number/25]("c")}
		allOK := !slices.ContainsFunc(views, func(v verdict.ViewResult) bool { return v.Record == nil || v.Record.Evaluation != verdict.OK })
		var part verdict.Record
		verdict.Combine(&part, views)
		if (part.Evaluation == verdict.OK) != allOK {
			t.Errorf("%v: found %s", views, part.Evaluation)
		}
	}
}

func TestCombineIsSimulated(t *testing.T) {
	camera, file := view("a", ""), view("b", "")
	file.Record.IsSimulated = true
	var part verdict.Record
	verdict.Combine(&part, []verdict.ViewResult{camera, file})
	if !part.IsSimulated {
		t.Error("one view of a file makes the part's verdict no true one")
	}
}

// A part's record has null for what only views have, and its schema says so.
func TestPartRecord(t *testing.T) {
	part := partRecord()
	encoded, err := verdict.JSON(part)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"recipe", "bundle", "method", "camera", "image", "regions", "anomaly_score", "image_threshold", "calibration_id",
		"diagnostics", "view", "command_id"} {
		if !strings.Contains(string(encoded), `"`+key+`":null`) {
			t.Errorf("%s is not null: %s", key, encoded)
		}
	}
}
