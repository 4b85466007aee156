package pipeline

import (
	"math"
	"strings"
	"testing"
)

func TestLearnLocation(t *testing.T) {
	var learner LocationLearner
	for _, anomalyMap := range [][]float32{{1, 10}, {3, 10}, {5, 10}} {
		learner.Add(anomalyMap)
	}
	location, err := learner.Learn()
	if err != nil {
		t.Fatal(err)
	}
	// Variances 4 and 0, pooled 2: a quarter of each is the pooled one.
	want := []float64{math.Sqrt(0.75*4 + 0.25*2), math.Sqrt(0.25 * 2)}
	for i, mean := range []float32{3, 10} {
		if location.mean[i] != mean || math.Abs(float64(location.std[i])-want[i]) > 1e-6 {
			t.Errorf("%d: want mean %v and std %v, found %v and %v", i, mean, want[i], location.mean[i], location.std[i])
		}
	}
	anomalyMap := []float32{3, 11}
	location.standardise(anomalyMap)
	if anomalyMap[0] != 0 || math.Abs(float64(anomalyMap[1])-1/want[1]) > 1e-6 {
		t.Errorf("found %v", anomalyMap)
	}
}

func TestLearnLocationRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		maps [][]float32
		want string
	}{
		"nothing":  {nil, "expected maps of at least 2 good parts, found 0"},
		"one part": {[][]float32{{1}}, "found 1"},
		"the same": {[][]float32{{1, 2}, {1, 2}}, "the maps of all good parts are the same"},
		"infinite": {[][]float32{{1, float32(math.Inf(1))}, {2, 3}}, "expected a finite number"},
	} {
		var learner LocationLearner
		for _, each := range test.maps {
			learner.Add(each)
		}
		if _, err := learner.Learn(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: want %q, found %v", name, test.want, err)
		}
	}
}

func TestLocationIsChecked(t *testing.T) {
	for name, test := range map[string]struct{ mean, std []float32 }{
		"without std":  {[]float32{1}, nil},
		"std 0":        {[]float32{1}, []float32{0}},
		"std infinite": {[]float32{1}, []float32{float32(math.Inf(1))}},
		"NaN":          {[]float32{float32(math.NaN())}, []float32{1}},
	} {
		if _, err := NewLocation(test.mean, test.std); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	parameters := Parameters{Score: Score{MapSize: 1}}
	if err := parameters.checkLocation(&Location{[]float32{1, 2}, []float32{1, 2}}); err == nil {
		t.Error("of another size: want an error")
	}
	for _, location := range []*Location{nil, {}, {[]float32{0}, []float32{1}}} {
		if err := parameters.checkLocation(location); err != nil {
			t.Error(err)
		}
	}
}
