package verdict

import (
	"math"
	"testing"
)

func TestEvaluate(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, test := range map[string]struct {
		score      float64
		thresholds Thresholds
		want       Evaluation
		code       ReasonCode
	}{
		"below":                        {0.3, Thresholds{Image: 0.4}, OK, ""},
		"above":                        {0.5, Thresholds{Image: 0.4}, NotOK, ReasonAnomaly},
		"at the threshold":             {0.4, Thresholds{Image: 0.4}, OK, ""},
		"a hair above":                 {math.Nextafter(0.4, 1), Thresholds{Image: 0.4}, NotOK, ReasonAnomaly},
		"at it, with a guard band":     {0.5, Thresholds{Image: 0.5, GuardBand: 0.125}, NotDecidable, ReasonGuardBand},
		"band's upper edge":            {0.625, Thresholds{Image: 0.5, GuardBand: 0.125}, NotDecidable, ReasonGuardBand},
		"band's lower edge":            {0.375, Thresholds{Image: 0.5, GuardBand: 0.125}, NotDecidable, ReasonGuardBand},
		"above the band":               {0.75, Thresholds{Image: 0.5, GuardBand: 0.125}, NotOK, ReasonAnomaly},
		"below the band":               {0.25, Thresholds{Image: 0.5, GuardBand: 0.125}, OK, ""},
		"score NaN":                    {nan, Thresholds{Image: 0.4}, Undefined, ReasonNumeric},
		"score infinite":               {inf, Thresholds{Image: 0.4}, Undefined, ReasonNumeric},
		"score infinitely low":         {-inf, Thresholds{Image: 0.4}, Undefined, ReasonNumeric},
		"threshold NaN":                {0.3, Thresholds{Image: nan}, Undefined, ReasonNumeric},
		"threshold infinite":           {0.3, Thresholds{Image: inf}, Undefined, ReasonNumeric},
		"guard band NaN":               {0.3, Thresholds{Image: 0.4, GuardBand: nan}, Undefined, ReasonNumeric},
		"guard band infinite, nothing": {0.3, Thresholds{Image: 0.4, GuardBand: inf}, NotDecidable, ReasonGuardBand},
	} {
		t.Run(name, func(t *testing.T) {
			evaluation, reason := Evaluate(test.score, test.thresholds)
			if evaluation != test.want {
				t.Errorf("want %s, found %s", test.want, evaluation)
			}
			if (reason == nil) != (test.want == OK) || (reason != nil && (reason.Code != test.code || reason.Detail == "")) {
				t.Errorf("want reason %q and a detail, found %+v", test.code, reason)
			}
		})
	}
}
