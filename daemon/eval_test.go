package main

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gladd/engines"
	"gladd/engines/enginetest"
)

// labelled writes a set of the virtual line.
func labelled(t *testing.T, good, defective int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plates")
	code, _, stderr := gladd(t, "line", "--out", dir, "--train", "0", "--good", itoa(good), "--defective", itoa(defective), "--size", "64")
	if code != 0 {
		t.Fatal(stderr)
	}
	return dir
}

func itoa(n int) string { return string(mustJSON(n)) }

func mustJSON(value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return encoded
}

type metrics struct {
	Schema  string
	Mean    map[string]*float64
	Classes map[string]struct {
		ImageAUROC  *float64    `json:"image_auroc"`
		Interval    [2]*float64 `json:"image_auroc_95"`
		PRO         *float64    `json:"pro"`
		Pictures    int
		Unscored    int
		AtThreshold *struct {
			FalseRejects struct{ Count, Of int } `json:"false_rejects"`
			Escapes      struct{ Count, Of int }
			Kinds        []map[string]any
		} `json:"at_threshold"`
		Notes []string
	}
}

func readMetrics(t *testing.T, out string) metrics {
	t.Helper()
	var found metrics
	if err := json.Unmarshal(enginetest.ReadFile(t, filepath.Join(out, "metrics.json")), &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestEval(t *testing.T) {
	data := labelled(t, 4, 9)
	bundle := enginetest.Copy(t, enginetest.TinyA(t))
	calibrate(t, bundle)
	out := filepath.Join(t.TempDir(), "out")
	code, stdout, stderr := gladd(t, "eval", "--bundle", bundle, "--data", data, "--out", out)
	if code != 0 || !strings.Contains(stdout, "I-AUROC  I-AP") || !strings.Contains(stdout, "of 4 good parts rejected") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	found := readMetrics(t, out)
	class := found.Classes["plates"]
	if found.Schema != "gladd.metrics/v1" || len(found.Mean) != 7 || class.Pictures != 13 || class.PRO == nil || *class.PRO != *found.Mean["pro"] {
		t.Errorf("found %+v", found)
	}
	if low, high := class.Interval[0], class.Interval[1]; low == nil || *low > *class.ImageAUROC || *high < *class.ImageAUROC || !strings.Contains(stdout, "95 % interval") {
		t.Errorf("the interval of the image AUROC: %v, %v around %v: %s", low, high, *class.ImageAUROC, stdout)
	}
	if at := class.AtThreshold; at.FalseRejects.Of != 4 || at.Escapes.Of != 9 || len(at.Kinds) != 10 || at.Kinds[0]["kind"] != "good" {
		t.Errorf("at the threshold: %+v", at)
	}
	// The scores are those of 'gladd inspect'.
	_, lined, _ := gladd(t, "inspect", "--bundle", bundle, filepath.Join(data, "test", "good"), "--threads", "1")
	for _, line := range lines(t, lined) {
		var result struct{ Score float64 }
		name := strings.TrimSuffix(filepath.Base(line["image"].(string)), ".png")
		if err := json.Unmarshal(enginetest.ReadFile(t, filepath.Join(out, "results", "plates", "good", name+".json")), &result); err != nil {
			t.Fatal(err)
		}
		if difference := result.Score - line["score"].(float64); difference > 1e-5 || difference < -1e-5 {
			t.Errorf("%s: want score %v, found %v", name, line["score"], result.Score)
		}
	}

	// One file, nothing from elsewhere.
	page := string(enginetest.ReadFile(t, filepath.Join(out, "report.html")))
	for _, want := range []string{"<svg", "ROC of the images", "Anomaly scores", "Where parts switched", "data:image/jpeg;base64,", "missing_hole"} {
		if !strings.Contains(page, want) {
			t.Errorf("report.html lacks %q", want)
		}
	}
	for _, foreign := range []string{`src="http`, `href="http`, "@import", "<script"} {
		if strings.Contains(page, foreign) {
			t.Errorf("report.html holds %q", foreign)
		}
	}

	// Again, with nothing left to inspect, and to the same figures.
	before := enginetest.ReadFile(t, filepath.Join(out, "metrics.json"))
	result := filepath.Join(out, "results", "plates", "good", "0000.json")
	info, err := os.Stat(result)
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := gladd(t, "eval", "--bundle", bundle, "--data", data, "--out", out); code != 0 {
		t.Fatal(stderr)
	}
	if again, err := os.Stat(result); err != nil || !again.ModTime().Equal(info.ModTime()) {
		t.Error("a picture was inspected again")
	}
	if after := enginetest.ReadFile(t, filepath.Join(out, "metrics.json")); !bytes.Equal(before, after) {
		t.Error("the figures differ the second time")
	}

	// Another model does not go on with it.
	enginetest.Edit(t, bundle, "threshold: 0.074", "threshold: 0.08")
	if err := os.Remove(filepath.Join(bundle, engines.CalibrationsFile)); err != nil {
		t.Fatal(err)
	}
	code, _, stderr = gladd(t, "eval", "--bundle", bundle, "--data", data, "--out", out)
	if code != 2 || !strings.Contains(stderr, "holds those of another model or method") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// A run that is cut short keeps what it has, and the next goes on there.
func TestEvalGoesOn(t *testing.T) {
	data := labelled(t, 6, 0)
	bundle := enginetest.TinyA(t)
	out := filepath.Join(t.TempDir(), "out")
	t.Setenv("GLADD_ONNXRUNTIME_LIBRARY", enginetest.Library(t))
	ctx, cancel := context.WithCancel(t.Context())
	// The first result ends the run.
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			if found, err := filepath.Glob(filepath.Join(out, "results", "*", "*", "*.json")); err == nil && len(found) > 0 {
				cancel()
			}
		}
	}()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"eval", "--bundle", bundle, "--data", data, "--out", out, "--parallel", "1"}, &stdout, &stderr)
	<-watched
	if code != 1 || !strings.Contains(stderr.String(), "the same command goes on from here") {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	kept, err := filepath.Glob(filepath.Join(out, "results", "*", "*", "*.json"))
	if err != nil || len(kept) == 0 || len(kept) == 6 {
		t.Fatalf("%d results were kept: %v", len(kept), err)
	}
	first, err := os.Stat(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errs := gladd(t, "eval", "--bundle", bundle, "--data", data, "--out", out); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if again, err := os.Stat(kept[0]); err != nil || !again.ModTime().Equal(first.ModTime()) {
		t.Error("what was there was made again")
	}
	found := readMetrics(t, out)
	if found.Classes["plates"].Pictures != 6 || found.Mean["image_auroc"] != nil || !strings.Contains(strings.Join(found.Classes["plates"].Notes, "\n"), "no defective pictures") {
		t.Errorf("found %+v", found)
	}
}

// What is missing is said, and what can be reported is.
func TestEvalOfWhatIsThere(t *testing.T) {
	data := labelled(t, 3, 9)
	enginetest.WriteFile(t, filepath.Join(data, "test", "good", "broken.png"), []byte("no picture"))
	if err := os.Remove(filepath.Join(data, "ground_truth", "dent", "0000_obvious_mask.png")); err != nil {
		t.Fatal(err)
	}
	enginetest.WriteFile(t, filepath.Join(data, "ground_truth", "chip", "0000_obvious_mask.png"), []byte("no mask"))
	bundle := enginetest.Copy(t, enginetest.TinyA(t))
	out := filepath.Join(t.TempDir(), "out")
	code, _, stderr := gladd(t, "eval", "--bundle", bundle, "--data", data, "--out", out)
	if code != 1 || !strings.Contains(stderr, "pictures that gave no score and are in no figure: 1") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	class := readMetrics(t, out).Classes["plates"]
	if class.Unscored != 1 || class.PRO == nil || class.ImageAUROC == nil || class.AtThreshold != nil {
		t.Errorf("found %+v", class)
	}
	notes := strings.Join(class.Notes, "\n")
	for _, want := range []string{"broken.png", "1 of 9 defective pictures have no mask", "chip/0000_obvious_mask.png: not a picture", "the bundle has no calibration"} {
		if !strings.Contains(notes, want) {
			t.Errorf("want %q in the notes:\n%s", want, notes)
		}
	}

	calibrate(t, bundle)
	path := filepath.Join(bundle, engines.CalibrationsFile)
	enginetest.WriteFile(t, path, bytes.ReplaceAll(enginetest.ReadFile(t, path), []byte("image_threshold: 1.0"), []byte("image_threshold: 99")))
	if code, _, stderr := gladd(t, "eval", "--bundle", bundle, "--data", data, "--out", out); code != 1 || !strings.Contains(stderr, "is above all scores") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestEvalLayouts(t *testing.T) {
	plates := labelled(t, 2, 9)
	copyTree := func(from, to string) { copyFile(t, filepath.Join(plates, from), to) }
	root := t.TempDir()

	// PCB-Bank: bad pictures whose masks have their names.
	bank := filepath.Join(root, "bank")
	for _, class := range []string{"pcb1", "pcb2"} {
		copyTree("test/good/0000.png", filepath.Join(bank, class, "test/good/a.png"))
		copyTree("test/dent/0000_obvious.png", filepath.Join(bank, class, "test/bad/b.png"))
		copyTree("ground_truth/dent/0000_obvious_mask.png", filepath.Join(bank, class, "ground_truth/bad/b.png"))
	}

	// VisA with its own split; its masks hold 1 where there is a defect.
	visa := filepath.Join(root, "visa")
	copyTree("test/good/0000.png", filepath.Join(visa, "candle/Data/Images/Normal/0.png"))
	copyTree("test/good/0001.png", filepath.Join(visa, "candle/Data/Images/Normal/1.png"))
	copyTree("test/stain/0000_obvious.png", filepath.Join(visa, "candle/Data/Images/Anomaly/0.png"))
	mask := image.NewGray(image.Rect(0, 0, 64, 64))
	for i := range 20 {
		mask.Pix[64*30+i] = 1
	}
	var content bytes.Buffer
	if err := png.Encode(&content, mask); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"candle/Data/Masks/Anomaly", "split_csv"} {
		if err := os.MkdirAll(filepath.Join(visa, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	enginetest.WriteFile(t, filepath.Join(visa, "candle/Data/Masks/Anomaly/0.png"), content.Bytes())
	enginetest.WriteFile(t, filepath.Join(visa, "split_csv/1cls.csv"), []byte(`object,split,label,image,mask
candle,train,normal,candle/Data/Images/Normal/0.png,
candle,test,normal,candle/Data/Images/Normal/1.png,
candle,test,anomaly,candle/Data/Images/Anomaly/0.png,candle/Data/Masks/Anomaly/0.png
`))
	for name, test := range map[string]struct {
		data     string
		classes  []string
		pictures int
	}{
		"PCB-Bank":             {bank, []string{"pcb1", "pcb2"}, 2},
		"a class of VisA":      {filepath.Join(visa, "candle"), []string{"candle"}, 2},
		"VisA":                 {visa, []string{"candle"}, 2},
		"with a slash behind":  {filepath.Join(bank, "pcb1") + "/", []string{"pcb1"}, 2},
		"a parent of MVTec AD": {filepath.Dir(plates), []string{"plates"}, 11},
	} {
		out := filepath.Join(t.TempDir(), "out")
		if code, _, stderr := gladd(t, "eval", "--bundle", enginetest.TinyA(t), "--data", test.data, "--out", out); code != 0 {
			t.Errorf("%s: exit code %d: %s", name, code, stderr)
			continue
		}
		found := readMetrics(t, out)
		if len(found.Classes) != len(test.classes) {
			t.Errorf("%s: found %+v", name, found.Classes)
		}
		for _, class := range test.classes {
			if of := found.Classes[class]; of.Pictures != test.pictures || of.PRO == nil || of.ImageAUROC == nil {
				t.Errorf("%s: %s: found %+v", name, class, of)
			}
		}
	}
}

func TestEvalRefuses(t *testing.T) {
	bundle, plates := enginetest.TinyA(t), labelled(t, 1, 0)
	loose := t.TempDir()
	copyFile(t, filepath.Join(plates, "test/good/0000.png"), filepath.Join(loose, "test", "0000.png"))
	split := t.TempDir()
	if err := os.Mkdir(filepath.Join(split, "split_csv"), 0o755); err != nil {
		t.Fatal(err)
	}
	enginetest.WriteFile(t, filepath.Join(split, "split_csv", "1cls.csv"), []byte("a,b\n"))
	occupied := t.TempDir()
	enginetest.WriteFile(t, filepath.Join(occupied, "letter.txt"), nil)
	for name, test := range map[string]struct {
		data, out, want string
	}{
		"no such folder":    {filepath.Join(loose, "none"), "", "data set: stat"},
		"no such layout":    {t.TempDir(), "", "expected a class folder that holds test/good and test/<defect>"},
		"pictures in test":  {loose, "", "move good ones to test/good"},
		"another split":     {split, "", "expected the columns object,split,label,image,mask, found a,b"},
		"a folder in use":   {plates, occupied, "found letter.txt in"},
		"pictures in class": {filepath.Join(plates, "test", "good"), "", "found neither"},
	} {
		out := test.out
		if out == "" {
			out = filepath.Join(t.TempDir(), "out")
		}
		code, _, stderr := gladd(t, "eval", "--bundle", bundle, "--data", test.data, "--out", out)
		if code != 2 || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: want exit code 2 and %q, found %d: %s", name, test.want, code, stderr)
		}
	}
}
