package verdict

import "strings"

// ViewResult is what one view of a part gave.
type ViewResult struct {
	View   string
	Record *Record // nil: it had no result by the part's deadline
}

// Combine completes a part's record by its views, which come in the order of
// their names: NotOK > Undefined > NotDecidable > OK. A missing view is
// Undefined, so that a part is OK only where all its views are. The reason is
// that of the first view that decides. A part that is NotOK is completed,
// whatever its other views are: it must count as an attempt. Otherwise it is
// what the first view is that was not completed.
func Combine(part *Record, views []ViewResult) {
	expected := len(views)
	part.ViewsExpected = &expected
	part.SourceResultIDs = []string{}
	part.Evaluation, part.Reason, part.ResultState = OK, nil, Completed
	var missing []string
	for _, view := range views {
		evaluation, state := Undefined, Failed
		var reason *Reason
		if record := view.Record; record == nil {
			missing = append(missing, view.View)
		} else {
			evaluation, state = record.Evaluation, record.ResultState
			if record.Reason != nil {
				reason = &Reason{Code: record.Reason.Code, Detail: view.View + ": " + record.Reason.Detail}
			}
			part.SourceResultIDs = append(part.SourceResultIDs, record.ResultID)
			part.IsSimulated = part.IsSimulated || record.IsSimulated
		}
		if rank(evaluation) > rank(part.Evaluation) {
			part.Evaluation, part.Reason = evaluation, reason
		}
		if part.ResultState == Completed {
			part.ResultState = state
		}
	}
	if part.Evaluation == NotOK {
		part.ResultState = Completed
	}
	part.IsPartial = len(missing) > 0
	names := strings.Join(missing, ", ")
	switch {
	case part.IsPartial && part.Reason == nil: // a missing one decides
		part.Reason = &Reason{Code: ReasonDeadline, Detail: names + ": no result by the part's deadline"}
	case part.IsPartial:
		part.Reason.Detail += "; no result by the part's deadline: " + names
	case expected == 0: // nothing was inspected, and that is not OK
		part.Evaluation, part.ResultState = Undefined, Failed
		part.Reason = &Reason{Code: ReasonInternal, Detail: "the part has no views"}
	}
}

// rank is how much an evaluation weighs against those of other views.
func rank(evaluation Evaluation) int {
	switch evaluation {
	case OK:
		return 0
	case NotDecidable:
		return 1
	case NotOK:
		return 3
	}
	return 2
}
