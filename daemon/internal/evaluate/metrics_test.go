package evaluate

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gladd/internal/npy"
)

// The figures are those of scikit-learn and of a direct computation of the
// per-region overlap; see testdata/goldens/metrics.py.
func TestFiguresAreThoseOfTheReference(t *testing.T) {
	const size, tolerance = 24, 1e-9
	folder := filepath.Join("testdata", "metrics")
	content, err := os.ReadFile(filepath.Join(folder, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases map[string]struct {
		Labels  []int
		Scores  []float64
		Figures map[string]*float64
	}
	if err := json.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 13 {
		t.Fatalf("only %d cases", len(cases))
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join(folder, name+".maps.npy"))
			if err != nil {
				t.Fatal(err)
			}
			maps, err := npy.Decode(content, len(test.Labels), size, size)
			if err != nil {
				t.Fatal(err)
			}
			var pictures []scoredMap
			for i, label := range test.Labels {
				picture := scoredMap{
					defective: label == 1,
					score:     test.Scores[i],
					read:      func() ([]float32, error) { return maps[i*size*size : (i+1)*size*size], nil },
				}
				path := filepath.Join(folder, name+"."+strconv.Itoa(i)+".mask.png")
				if _, err := os.Stat(path); err == nil {
					picture.mask = func() ([]bool, error) { return readMask(path, 127, size) }
				}
				pictures = append(pictures, picture)
			}
			figures, curve, err := measure(pictures, size)
			if err != nil {
				t.Fatal(err)
			}
			encoded, err := json.Marshal(figures)
			if err != nil {
				t.Fatal(err)
			}
			var found map[string]*float64
			if err := json.Unmarshal(encoded, &found); err != nil {
				t.Fatal(err)
			}
			if len(found) != 7 || len(test.Figures) != 7 {
				t.Fatalf("want seven figures, found %s", encoded)
			}
			for figure, want := range test.Figures {
				value := found[figure]
				if (want == nil) != (value == nil) || want != nil && math.Abs(*want-*value) > tolerance {
					t.Errorf("%s: want %v, found %v", figure, printed(want), printed(value))
				}
			}
			if found["image_auroc"] != nil && (curve[0] != RatePoint{} || curve[len(curve)-1] != RatePoint{1, 1}) {
				t.Errorf("the curve goes from %v to %v", curve[0], curve[len(curve)-1])
			}
		})
	}
}

func printed(value *float64) any {
	if value == nil {
		return "none"
	}
	return *value
}

func TestMeanOverClasses(t *testing.T) {
	undefined := Fraction(math.NaN())
	mean := meanFigures([]Figures{
		{ImageAUROC: 0.5, PRO: undefined, PixelAP: undefined},
		{ImageAUROC: 1, PRO: 0.25, PixelAP: undefined},
	})
	if mean.ImageAUROC != 0.75 || mean.PRO != 0.25 || mean.PixelAP.Defined() {
		t.Errorf("found %+v", mean)
	}
}

// The charts are well-formed, and no number in them went wrong.
func TestCharts(t *testing.T) {
	bins := switchBins{{331, "threshold"}: 3, {166, "min_step"}: 9}
	for name, chart := range map[string]string{
		"histogram":        histogram("Scores <of> parts", "score", []float64{0.1, 0.2, 0.2}, []float64{0.5}, mark{0.4, "threshold"}),
		"equal scores":     histogram("Scores", "score", []float64{0, 0, 0}, nil),
		"curve":            rateCurve("ROC", []RatePoint{{}, {0.5, 1}, {1, 1}}),
		"switches":         switchChart("Switches", bins, switchBins{{397, "threshold"}: 1}),
		"switches of none": switchChart("Switches", switchBins{}, switchBins{}),
	} {
		decoder := xml.NewDecoder(strings.NewReader(chart))
		elements := 0
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, starts := token.(xml.StartElement); starts {
				elements++
			}
		}
		if elements < 10 {
			t.Errorf("%s: only %d elements", name, elements)
		}
		for _, wrong := range []string{"%!", "NaN", "Inf"} {
			if strings.Contains(chart, wrong) {
				t.Errorf("%s holds %s:\n%s", name, wrong, chart)
			}
		}
	}
}

// DeLong's variance by the definition, for scores with ties.
func TestAUROCIntervalByDefinition(t *testing.T) {
	positives, negatives := []float64{3, 5, 4, 2, 6, 5}, []float64{1, 4, 2, 3, 0}
	psi := func(p, n float64) float64 {
		switch {
		case p > n:
			return 1
		case p == n:
			return 0.5
		}
		return 0
	}
	spread := func(rows int, row func(i int) float64) (mean, variance float64) {
		for i := range rows {
			mean += row(i) / float64(rows)
		}
		for i := range rows {
			variance += (row(i) - mean) * (row(i) - mean) / float64(rows-1)
		}
		return mean, variance
	}
	auroc, v10 := spread(6, func(i int) (sum float64) {
		for _, n := range negatives {
			sum += psi(positives[i], n) / 5
		}
		return sum
	})
	_, v01 := spread(5, func(i int) (sum float64) {
		for _, p := range positives {
			sum += psi(p, negatives[i]) / 6
		}
		return sum
	})
	reach := 1.959964 * math.Sqrt(v10/6+v01/5) / (auroc * (1 - auroc))
	logit := math.Log(auroc / (1 - auroc))
	low, high := aurocInterval(positives, negatives)
	if math.Abs(math.Log(low/(1-low))-(logit-reach)) > 1e-9 || math.Abs(math.Log(high/(1-high))-(logit+reach)) > 1e-9 {
		t.Errorf("auroc %v: want a reach of %v on the logit's scale, found %v to %v", auroc, reach, low, high)
	}
}

// As often as the interval promises, it holds the AUROC of all parts.
func TestAUROCIntervalCovers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	truth := 0.5 * (1 + math.Erf(2.0/2)) // of two normal distributions 2 deviations apart
	covered, repetitions := 0, 2000
	for range repetitions {
		draw := func(count int, mean float64) []float64 {
			values := make([]float64, count)
			for i := range values {
				values[i] = mean + random.NormFloat64()
			}
			return values
		}
		low, high := aurocInterval(draw(60, 2), draw(40, 0))
		if low <= truth && truth <= high {
			covered++
		}
	}
	if share := float64(covered) / float64(repetitions); share < 0.93 || share > 0.97 {
		t.Errorf("want 95 %% of the intervals to hold the truth, found %v", share)
	}
}

func TestNoAUROCInterval(t *testing.T) {
	for name, scores := range map[string][2][]float64{
		"no defective ones": {nil, {1, 2}},
		"one defective one": {{3}, {1, 2, 4}},
		"all in order":      {{3, 4}, {1, 2}},
	} {
		if low, high := aurocInterval(scores[0], scores[1]); !math.IsNaN(low) || !math.IsNaN(high) {
			t.Errorf("%s: want none, found %v to %v", name, low, high)
		}
	}
}
