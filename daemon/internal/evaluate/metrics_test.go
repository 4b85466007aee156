package evaluate

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
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
