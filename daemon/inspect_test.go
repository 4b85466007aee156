package main

import (
	"bytes"
	"context"
	"encoding/json"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/internal/npy"
)

// The test binary is gladd itself when this variable is set.
const asProgram = "GLADD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	// Where there is a GPU, the tests use it only if they say so.
	os.Setenv("GLADD_CUDA_LIBRARY", "/nowhere/libcuda.so.1") //nolint:errcheck // the name is valid
	code := m.Run()
	for _, clean := range afterTests {
		clean()
	}
	os.Exit(code)
}

// afterTests are called once all tests are over.
var afterTests []func()

// gladd runs a command line in this process.
func gladd(t *testing.T, arguments ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("GLADD_ONNXRUNTIME_LIBRARY", enginetest.Library(t))
	var out, errs bytes.Buffer
	code = run(t.Context(), arguments, &out, &errs)
	return code, out.String(), errs.String()
}

// lines decodes JSON lines.
func lines(t *testing.T, stdout string) []map[string]any {
	t.Helper()
	var decoded []map[string]any
	for line := range strings.Lines(stdout) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("not a JSON line: %q: %v", line, err)
		}
		decoded = append(decoded, object)
	}
	return decoded
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	enginetest.WriteFile(t, to, enginetest.ReadFile(t, from))
}

func TestInspectFolder(t *testing.T) {
	bundle := enginetest.TinyA(t)
	trace := filepath.Join(t.TempDir(), "trace")
	code, stdout, stderr := gladd(t, "inspect", "--bundle", bundle, filepath.Join(bundle, "images"), "--noise", filepath.Join(bundle, "noise"), "--trace", trace)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var golden struct {
		Images map[string]struct {
			SwitchTimestep float64 `json:"switch_timestep"`
			SwitchReason   string  `json:"switch_reason"`
			Score          float64 `json:"score"`
			Gate           []any   `json:"gate"`
		} `json:"images"`
	}
	if err := json.Unmarshal(enginetest.ReadFile(t, filepath.Join(bundle, "golden.json")), &golden); err != nil {
		t.Fatal(err)
	}
	results := lines(t, stdout)
	var order []string
	for i, result := range results {
		stem := strings.TrimSuffix(filepath.Base(result["image"].(string)), ".png")
		order = append(order, stem)
		want := golden.Images[stem]
		if result["switch_timestep"] != want.SwitchTimestep || result["switch_reason"] != want.SwitchReason || math.Abs(result["score"].(float64)-want.Score) > 1e-3 || len(result["gate"].([]any)) != len(want.Gate) {
			t.Errorf("%s: want %+v, found %v", stem, want, result)
		}
		for _, key := range []string{"image", "evaluation", "reason", "score", "image_threshold", "switch_timestep", "switch_reason", "gate", "regions",
			"width", "height", "class", "bundle", "calibration_id", "method", "timings_ms"} {
			if _, present := result[key]; !present {
				t.Errorf("%s: key %s is missing", stem, key)
			}
		}
		if result["evaluation"] != "Undefined" || result["reason"].(map[string]any)["code"] != "uncalibrated" || result["image_threshold"] != nil {
			t.Errorf("%s: want Undefined, uncalibrated, found %v", stem, result)
		}
		timings := result["timings_ms"].(map[string]any)
		if networks, total := timings["networks"].(float64), timings["total"].(float64); networks <= 0 || networks > total {
			t.Errorf("%s: timings: %v", stem, timings)
		}

		// The trace.
		line := enginetest.ReadFile(t, filepath.Join(trace, stem+".json"))
		if printed := slices.Collect(strings.Lines(stdout))[i]; string(line) != printed {
			t.Errorf("%s.json: want the line that was printed, %s, found %s", stem, printed, line)
		}
		for kind, shape := range map[string][]int{"anomaly_map": {64, 64}, "reconstruction": {3, 64, 64}} {
			found, err := npy.Decode(enginetest.ReadFile(t, filepath.Join(trace, stem+"."+kind+".npy")), shape...)
			if err != nil {
				t.Fatal(err)
			}
			expected, err := npy.Decode(enginetest.ReadFile(t, filepath.Join(bundle, "golden", stem+"."+kind+".npy")), shape...)
			if err != nil {
				t.Fatal(err)
			}
			for i := range expected {
				if math.Abs(float64(found[i]-expected[i])) > 1.5e-3 {
					t.Fatalf("%s.%s: want %v at %d, found %v", stem, kind, expected[i], i, found[i])
				}
			}
		}
		overlay, err := png.Decode(bytes.NewReader(enginetest.ReadFile(t, filepath.Join(trace, stem+".overlay.png"))))
		if err != nil || overlay.Bounds().Dx() < 900 {
			t.Errorf("%s.overlay.png: want three panels of at least 300 px, found %v, %v", stem, overlay, err)
		}
	}
	if want := []string{"blob_dark", "checker_gradient", "good_0", "good_1", "patch_noise", "scratch_red"}; !slices.Equal(order, want) {
		t.Errorf("order: want %v, found %v", want, order)
	}
	if strings.Contains(stdout, "\": ") || strings.Contains(stdout, ", \"") {
		t.Error("the JSON is not compact")
	}
}

func TestSamePictureSameScore(t *testing.T) {
	bundle := enginetest.Micro(t)
	score := func(class string) any {
		code, stdout, stderr := gladd(t, "inspect", "--bundle", bundle, "--class", class, filepath.Join(bundle, "images/disk.png"))
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		result := lines(t, stdout)[0]
		if result["class"] != class {
			t.Errorf("class: want %s, found %v", class, result["class"])
		}
		return result["score"]
	}
	if first, second := score("left"), score("left"); first != second {
		t.Errorf("two scores of one picture: %v and %v", first, second)
	}
	if left, right := score("left"), score("right"); left == right {
		t.Errorf("the class changes nothing: %v", left)
	}
}

// Pictures that cannot be inspected get their line; the others are done.
func TestInspectBadPictures(t *testing.T) {
	bundle := enginetest.TinyA(t)
	dir, trace := t.TempDir(), t.TempDir()
	good := enginetest.ReadFile(t, filepath.Join(bundle, "images/good_0.png"))
	copyFile(t, filepath.Join(bundle, "images/good_0.png"), filepath.Join(dir, "a_good.png"))
	copyFile(t, filepath.Join(bundle, "images/good_1.png"), filepath.Join(dir, "z_good.png"))
	enginetest.WriteFile(t, filepath.Join(dir, "empty.png"), nil)
	enginetest.WriteFile(t, filepath.Join(dir, "text.jpg"), []byte("words"))
	enginetest.WriteFile(t, filepath.Join(dir, "truncated.png"), good[:len(good)/2])
	onePixel := []byte("BM\x3a\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x18\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x00")
	enginetest.WriteFile(t, filepath.Join(dir, "one_pixel.bmp"), onePixel)

	copyFile(t, filepath.Join(bundle, "images/good_0.png"), filepath.Join(trace, "empty.overlay.png")) // of an earlier run
	code, stdout, stderr := gladd(t, "inspect", "--bundle", bundle, "--trace", trace, dir)
	if code != 1 {
		t.Errorf("exit code: want 1, found %d", code)
	}
	if !strings.Contains(stderr, "4 of 6 pictures gave no score") {
		t.Errorf("stderr: %s", stderr)
	}
	want := map[string]string{"empty.png": "camera", "text.jpg": "camera", "truncated.png": "camera", "one_pixel.bmp": "image-health"}
	for _, result := range lines(t, stdout) {
		name := filepath.Base(result["image"].(string))
		code, bad := want[name]
		if !bad {
			if result["score"] == nil {
				t.Errorf("%s: no score", name)
			}
			continue
		}
		delete(want, name)
		reason := result["reason"].(map[string]any)
		if result["evaluation"] != "Undefined" || result["score"] != nil || reason["code"] != code || result["switch_reason"] != "none" || len(result["gate"].([]any)) != 0 {
			t.Errorf("%s: want Undefined, %s, found %v", name, code, result)
		}
		if strings.Count(stderr, filepath.Join(dir, name)) != 1 {
			t.Errorf("%s: want one message that names it, found %s", name, stderr)
		}
	}
	if len(want) > 0 {
		t.Errorf("no lines for %v", want)
	}
	if _, err := os.Stat(filepath.Join(trace, "empty.overlay.png")); !os.IsNotExist(err) {
		t.Error("an earlier run's overlay stands beside a result without a score")
	}
	if _, err := os.Stat(filepath.Join(trace, "empty.json")); err != nil {
		t.Error(err)
	}
}

func TestNaNFromANetwork(t *testing.T) {
	for graph, value := range map[string]string{"unet_nan": "NaN", "unet_inf": "+Inf"} {
		dir := enginetest.Copy(t, enginetest.Micro(t))
		enginetest.ReplaceGraph(t, dir, engines.UNet, enginetest.ReadFile(t, enginetest.Path(t, "engines/testdata/graphs/"+graph+".onnx")))
		code, stdout, stderr := gladd(t, "inspect", "--bundle", dir, "--class", "left", filepath.Join(enginetest.Micro(t), "images/stripes.png"))
		result := lines(t, stdout)[0]
		reason := result["reason"].(map[string]any)
		if code != 1 || result["evaluation"] != "Undefined" || reason["code"] != "numeric" || !strings.Contains(reason["detail"].(string), "predict noise at timestep 256: expected finite values, found "+value) {
			t.Errorf("%s: want exit code 1 and numeric, found %d, %v, %s", graph, code, result, stderr)
		}
	}
}

// Wrong usage ends with 2 before anything is inspected or written.
func TestWrongUsage(t *testing.T) {
	tiny, micro := enginetest.TinyA(t), enginetest.Micro(t)
	images := filepath.Join(tiny, "images")
	dir := t.TempDir()
	noise := filepath.Join(dir, "noise")
	copyFile(t, filepath.Join(tiny, "noise/good_0.npy"), filepath.Join(noise, "good_0.npy"))
	misshaped := filepath.Join(dir, "misshaped")
	copyFile(t, filepath.Join(micro, "noise/disk.npy"), filepath.Join(misshaped, "good_0.npy"))
	notNumbers := filepath.Join(dir, "nan")
	nan := make([]float32, 4*8*8)
	nan[3] = float32(math.NaN())
	if err := os.Mkdir(notNumbers, 0o755); err != nil {
		t.Fatal(err)
	}
	enginetest.WriteFile(t, filepath.Join(notNumbers, "good_0.npy"), npy.Encode(nan, 4, 8, 8))
	copyFile(t, filepath.Join(images, "good_0.png"), filepath.Join(dir, "twice/good_0.png"))
	broken := enginetest.Copy(t, tiny)
	enginetest.Edit(t, broken, "  top_k: 250", "  top_k: 4097")
	trace := filepath.Join(dir, "trace")

	for name, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"unknown command":      {[]string{"polish"}, "unexpected argument polish"},
		"unknown flag":         {[]string{"inspect", "--bundle", tiny, "--fast", images}, "unknown flag --fast"},
		"no bundle":            {[]string{"inspect", images}, "missing flags: --bundle"},
		"no pictures":          {[]string{"inspect", "--bundle", tiny}, "IMAGE|DIR"},
		"absent picture":       {[]string{"inspect", "--bundle", tiny, filepath.Join(dir, "absent.png")}, "no such picture or folder"},
		"folder without any":   {[]string{"inspect", "--bundle", tiny, noise}, "no pictures below this folder"},
		"absent bundle":        {[]string{"inspect", "--bundle", filepath.Join(dir, "absent"), images}, "no such folder"},
		"broken bundle":        {[]string{"inspect", "--bundle", broken, images}, "bundle.yaml:26: score.top_k: expected a whole number from 1 to 4096, found 4097"},
		"unknown backend":      {[]string{"inspect", "--bundle", tiny, "--backend", "abacus", images}, "--backend must be one of"},
		"absent library":       {[]string{"inspect", "--bundle", tiny, "--onnxruntime-library", "/nowhere.so", images}, "ONNX Runtime library /nowhere.so"},
		"threads below 0":      {[]string{"inspect", "--bundle", tiny, "--threads=-1", images}, "threads: expected 0 (as many as there are processors) to 256, found -1"},
		"too many threads":     {[]string{"inspect", "--bundle", tiny, "--threads=1000000", images}, "to 256, found 1000000"},
		"bundle of no name":    {[]string{"inspect", "--bundle", "", images}, "bundle: expected a folder, found an empty name"},
		"bundle's manifest":    {[]string{"inspect", "--bundle", filepath.Join(tiny, "bundle.yaml"), images}, "expected the bundle's folder, found a file"},
		"picture of no name":   {[]string{"inspect", "--bundle", tiny, ""}, "picture: expected a file or folder, found an empty name"},
		"picture twice":        {[]string{"inspect", "--bundle", tiny, images, filepath.Join(images, "good_0.png")}, "is named twice"},
		"class of none":        {[]string{"inspect", "--bundle", tiny, "--class", "left", images}, "bundle tiny-a has no classes"},
		"no class of several":  {[]string{"inspect", "--bundle", micro, images}, "name one of left, right"},
		"missing noise":        {[]string{"inspect", "--bundle", tiny, "--noise", noise, images}, "noise of " + filepath.Join(images, "blob_dark.png") + ": " + filepath.Join(noise, "blob_dark.npy") + ": missing"},
		"misshaped noise":      {[]string{"inspect", "--bundle", tiny, "--noise", misshaped, filepath.Join(images, "good_0.png")}, "expected shape [4 8 8], found [3 12 20]"},
		"noise of NaN":         {[]string{"inspect", "--bundle", tiny, "--noise", notNumbers, filepath.Join(images, "good_0.png")}, "expected finite numbers, found NaN at index 3"},
		"noise folder absent":  {[]string{"inspect", "--bundle", tiny, "--noise", filepath.Join(dir, "absent"), images}, "missing"},
		"encode noise, unused": {[]string{"inspect", "--bundle", tiny, "--encode-noise", noise, filepath.Join(images, "good_0.png")}, "leave --encode-noise out"},
		"traces collide":       {[]string{"inspect", "--bundle", tiny, images, filepath.Join(dir, "twice")}, "would both be written to"},
		"trace among pictures": {[]string{"inspect", "--bundle", tiny, "--trace", images, images}, "holds the pictures"},
		"trace into a file":    {[]string{"inspect", "--bundle", tiny, "--trace", filepath.Join(tiny, "golden.json"), images}, "trace folder"},
	} {
		t.Run(name, func(t *testing.T) {
			arguments := test.arguments
			if len(arguments) > 1 && !slices.Contains(arguments, "--trace") {
				arguments = slices.Concat(arguments, []string{"--trace", trace})
			}
			code, stdout, stderr := gladd(t, arguments...)
			if code != 2 || stdout != "" || !strings.Contains(stderr, test.want) {
				t.Errorf("want exit code 2, nothing on stdout, and %q, found %d, %q, %s", test.want, code, stdout, stderr)
			}
			if _, err := os.Stat(trace); err == nil {
				t.Error("a trace folder was made")
			}
		})
	}
}

// Noise lies at the picture's place below the folder, or directly in it.
func TestNoiseOfNestedPictures(t *testing.T) {
	tiny := enginetest.TinyA(t)
	dir := t.TempDir()
	for _, place := range []string{"line/a/good_0", "line/b/good_0"} {
		copyFile(t, filepath.Join(tiny, "images/good_0.png"), filepath.Join(dir, place+".png"))
	}
	copyFile(t, filepath.Join(tiny, "noise/good_1.npy"), filepath.Join(dir, "noise/a/good_0.npy"))
	copyFile(t, filepath.Join(tiny, "noise/good_0.npy"), filepath.Join(dir, "noise/good_0.npy"))
	code, stdout, stderr := gladd(t, "inspect", "--bundle", tiny, "--noise", filepath.Join(dir, "noise"), "--trace", filepath.Join(dir, "trace"), filepath.Join(dir, "line"))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	results := lines(t, stdout)
	if a, b := results[0]["score"].(float64), results[1]["score"].(float64); a == b || math.Abs(b-0.05903727969527245) > 1e-3 {
		t.Errorf("want a's own noise and the shared one for b, found scores %v and %v", a, b)
	}
	for _, path := range []string{"a/good_0.overlay.png", "b/good_0.json"} {
		if _, err := os.Stat(filepath.Join(dir, "trace", path)); err != nil {
			t.Error(err)
		}
	}
}

func TestTextFormatOfOddNames(t *testing.T) {
	tiny, dir := enginetest.TinyA(t), t.TempDir()
	copyFile(t, filepath.Join(tiny, "images/good_0.png"), filepath.Join(dir, "a\nb\x1b[31m.png"))
	_, stdout, _ := gladd(t, "inspect", "--bundle", tiny, "--format", "text", dir)
	if strings.Count(stdout, "\n") != 1 || strings.Contains(stdout, "\x1b") || !strings.Contains(stdout, `a\nb\x1b[31m.png"`) {
		t.Errorf("want one line with the name quoted, found %q", stdout)
	}
}

func TestTextFormat(t *testing.T) {
	tiny := enginetest.TinyA(t)
	code, stdout, stderr := gladd(t, "inspect", "--bundle", tiny, "--format", "text", filepath.Join(tiny, "images/good_0.png"))
	if code != 0 || !strings.HasPrefix(stdout, "Undefined     score 0.") || !strings.HasSuffix(stdout, "good_0.png  (uncalibrated)\n") {
		t.Errorf("found %d, %q, %s", code, stdout, stderr)
	}
}

// A trace folder below the pictures does not become pictures.
func TestTraceBelowThePictures(t *testing.T) {
	tiny, dir := enginetest.TinyA(t), t.TempDir()
	copyFile(t, filepath.Join(tiny, "images/good_0.png"), filepath.Join(dir, "good_0.png"))
	for range 2 {
		code, stdout, stderr := gladd(t, "inspect", "--bundle", tiny, "--trace", filepath.Join(dir, "out/trace"), dir)
		if code != 0 || len(lines(t, stdout)) != 1 {
			t.Errorf("want one picture each time, found %d, %s%s", code, stdout, stderr)
		}
	}
}

// A signal before the first picture is no wrong usage.
func TestInterruptWhileOpening(t *testing.T) {
	tiny := enginetest.TinyA(t)
	t.Setenv("GLADD_ONNXRUNTIME_LIBRARY", enginetest.Library(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"inspect", "--bundle", tiny, filepath.Join(tiny, "images")}, &stdout, &stderr)
	if code != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), "stopped before the first picture: context canceled") {
		t.Errorf("want exit code 1 and a word, found %d, %s, %s", code, &stdout, &stderr)
	}
}

func TestStdoutThatFails(t *testing.T) {
	tiny := enginetest.TinyA(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	t.Setenv("GLADD_ONNXRUNTIME_LIBRARY", enginetest.Library(t))
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"inspect", "--bundle", tiny, filepath.Join(tiny, "images")}, full, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "writing the result of") {
		t.Errorf("want exit code 1 and a word, found %d, %s", code, &stderr)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, arguments := range [][]string{nil, {"--help"}, {"inspect", "--help"}} {
		code, stdout, stderr := gladd(t, arguments...)
		if code != 0 || !strings.Contains(stdout, "Usage: gladd") || stderr != "" {
			t.Errorf("%v: found %d, %q, %q", arguments, code, stdout, stderr)
		}
	}
	code, stdout, _ := gladd(t, "version")
	if code != 0 || !strings.HasPrefix(stdout, "gladd  ") || !strings.Contains(stdout, "OpenCV        4.") || !strings.Contains(stdout, "ONNX Runtime  1.32.0 (") {
		t.Errorf("version: found %d, %s", code, stdout)
	}
}

// The program as a process: an interrupt ends it after the running step, with
// a line for the picture that it stopped.
func TestInterrupt(t *testing.T) {
	tiny := enginetest.TinyA(t)
	dir := t.TempDir()
	for i := range 200 {
		copyFile(t, filepath.Join(tiny, "images/good_0.png"), filepath.Join(dir, "pictures", string(rune('a'+i/26))+string(rune('a'+i%26))+".png"))
	}
	command := exec.CommandContext(context.Background(), os.Args[0], "inspect", "--bundle", tiny, filepath.Join(dir, "pictures"))
	command.Env = append(os.Environ(), asProgram+"=1", "GLADD_ONNXRUNTIME_LIBRARY="+enginetest.Library(t))
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	command.Stderr = &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	buffer := make([]byte, 4096)
	for interrupted := false; ; {
		n, err := stdout.Read(buffer)
		output.Write(buffer[:n])
		if n > 0 && !interrupted {
			interrupted = true
			if err := command.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			break
		}
	}
	err = command.Wait()
	if code := command.ProcessState.ExitCode(); code != 1 {
		t.Errorf("want exit code 1, found %d, %v: %s", code, err, &stderr)
	}
	results := lines(t, output.String())
	if len(results) == 200 || !strings.Contains(stderr.String(), "of 200 pictures") {
		t.Errorf("want an early end that is said, found %d results, %s", len(results), &stderr)
	}
	for _, result := range results[:len(results)-1] {
		if result["score"] == nil {
			t.Errorf("a result before the last has no score: %v", result)
		}
	}
	if last := results[len(results)-1]; last["score"] == nil && last["reason"].(map[string]any)["code"] != "aborted" {
		t.Errorf("the last result: want aborted, found %v", last)
	}
}
