package virtualline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func newLine(t testing.TB, kind Kind, seed uint64, size int) *Line {
	t.Helper()
	line, err := New(kind, seed, size)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// The pixels and masks of parts of every kind with every defect: they are the
// same on every machine, and a change of them makes other data sets of the
// same seeds.
func TestGoldenDigest(t *testing.T) {
	digest := sha256.New()
	for _, kind := range Kinds {
		line := newLine(t, kind, 7, 96)
		digest.Write(line.Good("golden", 0).RGB)
		for i, defect := range kind.Defects() {
			part := line.Defective("golden", i, defect, Severities[i%3])
			digest.Write(part.RGB)
			digest.Write(part.Mask)
		}
	}
	const want = "39c123f445fef2419c668814ffc828f1e766de40578d9bf932d8bd1c8b427b84"
	if found := hex.EncodeToString(digest.Sum(nil)); found != want {
		t.Errorf("want %s, found %s", want, found)
	}
}

// The same test on a processor with 32-bit words, where this one can run its
// programs.
func TestGoldenDigestOn386(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("needs linux/amd64, which runs programs for 386")
	}
	command := exec.Command("go", "test", "-count=1", "-run", "^TestGoldenDigest$", ".")
	command.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// No expression of the package has a floating point type, and nothing is taken
// from a map in the order of its keys: what is drawn cannot depend on the
// machine.
func TestNoFloatsAndNoMapOrder(t *testing.T) {
	files := token.NewFileSet()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	info := types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	config := types.Config{Importer: importer.ForCompiler(files, "source", nil)}
	if _, err := config.Check("virtualline", files, parsed, &info); err != nil {
		t.Fatal(err)
	}
	if len(info.Types) < 1000 {
		t.Fatalf("only %d expressions were checked", len(info.Types))
	}
	for expression, value := range info.Types {
		if basic, isBasic := value.Type.Underlying().(*types.Basic); isBasic && basic.Info()&(types.IsFloat|types.IsComplex) != 0 {
			t.Errorf("%s: %s", files.Position(expression.Pos()), value.Type)
		}
	}
	for _, file := range parsed {
		ast.Inspect(file, func(node ast.Node) bool {
			if loop, isLoop := node.(*ast.RangeStmt); isLoop {
				if _, isMap := info.Types[loop.X].Type.Underlying().(*types.Map); isMap {
					t.Errorf("%s: goes through a map", files.Position(loop.Pos()))
				}
			}
			return true
		})
	}
}

// A mask marks what is there: outside of it, the part looks like the same part
// without the defect; inside, it does not.
func TestMasksMarkTheDefect(t *testing.T) {
	const size = 256
	contrast := map[Severity]float64{}
	for _, kind := range Kinds {
		line := newLine(t, kind, 3, size)
		for i, defect := range kind.Defects() {
			for j, severity := range Severities {
				for repeat := range 3 {
					number := 100*i + 10*j + repeat
					part, twin := line.Defective("masks", number, defect, severity), line.Good("masks", number)
					var marked, seen, outside int
					var sum float64
					for at := range size * size {
						difference := 0
						for channel := range 3 {
							difference = max(difference, int(part.RGB[3*at+channel])-int(twin.RGB[3*at+channel]), int(twin.RGB[3*at+channel])-int(part.RGB[3*at+channel]))
						}
						switch {
						case part.Mask[at] == 255:
							marked++
							sum += float64(difference)
							if difference > 1 {
								seen++
							}
						case difference > 6 && !near(part.Mask, size, at):
							outside++
						}
					}
					name := fmt.Sprintf("%s %s %s %d", kind, defect, severity, number)
					if marked < 6 || marked > size*size/12 {
						t.Errorf("%s: %d pixels are marked", name, marked)
					}
					if seen*3 < marked {
						t.Errorf("%s: the defect can be seen in %d of %d marked pixels", name, seen, marked)
					}
					if outside > marked/50 {
						t.Errorf("%s: %d pixels differ outside of the %d that are marked", name, outside, marked)
					}
					// What the eye sums up: contrast times extent.
					contrast[severity] += math.Log(sum + 1)
				}
			}
		}
	}
	if contrast[Obvious] <= contrast[Plain] || contrast[Plain] <= contrast[Faint] {
		t.Errorf("want obvious above plain above faint, found %v", contrast)
	}
}

// near says whether a marked pixel lies within two of this one: the lens blurs
// edges beyond the mask.
func near(mask []byte, size, at int) bool {
	for y := max(at/size-2, 0); y <= min(at/size+2, size-1); y++ {
		for x := max(at%size-2, 0); x <= min(at%size+2, size-1); x++ {
			if mask[y*size+x] != 0 {
				return true
			}
		}
	}
	return false
}

// Parts differ, as parts do; the same number is the same part.
func TestPartsDiffer(t *testing.T) {
	for _, kind := range Kinds {
		line := newLine(t, kind, 1, 64)
		first := line.Good("a", 0).RGB
		if !slices.Equal(first, line.Good("a", 0).RGB) {
			t.Errorf("%s: the same part differs", kind)
		}
		for name, other := range map[string]*Part{
			"number": line.Good("a", 1), "set": line.Good("b", 0), "seed": newLine(t, kind, 2, 64).Good("a", 0),
		} {
			if slices.Equal(first, other.RGB) {
				t.Errorf("%s: another %s gives the same part", kind, name)
			}
		}
	}
}

func TestDataset(t *testing.T) {
	line := newLine(t, Plate, 1, 64)
	first, second := filepath.Join(t.TempDir(), "first"), t.TempDir()
	counts := Counts{Train: 3, Good: 2, Defective: 30}
	done := 0
	if err := line.WriteDataset(t.Context(), first, counts, func() { done++ }); err != nil {
		t.Fatal(err)
	}
	if err := line.WriteDataset(t.Context(), second, counts, func() {}); err != nil {
		t.Fatal(err)
	}
	if done != 35 {
		t.Errorf("want 35 parts, found %d", done)
	}
	// Byte for byte the same, whatever was drawn first.
	var files []string
	err := filepath.WalkDir(first, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(first, path)
		files = append(files, relative)
		if err == nil && string(read(t, path)) != string(read(t, filepath.Join(second, relative))) {
			t.Errorf("%s differs from run to run", relative)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 35+30+1 {
		t.Errorf("want 66 files, found %d", len(files))
	}
	severities := map[string]int{}
	lines := strings.Split(strings.TrimSpace(string(read(t, filepath.Join(first, PartsFile)))), "\n")
	for _, text := range lines {
		var entry Entry
		if err := json.Unmarshal([]byte(text), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Defect == nil {
			continue
		}
		severities[*entry.Severity]++
		if !strings.HasPrefix(entry.Image, "test/"+*entry.Defect+"/") || !strings.HasSuffix(entry.Image, "_"+*entry.Severity+".png") || *entry.Area == 0 {
			t.Errorf("entry %s", text)
		}
		if want := strings.TrimSuffix(strings.Replace(entry.Image, "test/", "ground_truth/", 1), ".png") + "_mask.png"; *entry.Mask != want {
			t.Errorf("want mask %s, found %s", want, *entry.Mask)
		}
	}
	if len(lines) != 35 || severities["obvious"] != 12 || severities["plain"] != 9 || severities["faint"] != 9 {
		t.Errorf("%d lines, severities %v", len(lines), severities)
	}

	// A folder with something in it is left alone.
	err = line.WriteDataset(t.Context(), first, counts, func() {})
	if !errors.As(err, new(FolderError)) || !strings.Contains(err.Error(), "name another, or remove it first") {
		t.Errorf("want it refused, found %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cut := filepath.Join(t.TempDir(), "cut")
	if err := line.WriteDataset(ctx, cut, counts, func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("want it cancelled, found %v", err)
	}
	if _, err := os.Stat(filepath.Join(cut, PartsFile)); err == nil {
		t.Error("a set that was cut short has its list")
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestWrongOptions(t *testing.T) {
	for name, test := range map[string]struct {
		kind Kind
		size int
		want string
	}{
		"kind":      {"wheel", 256, `part "wheel": expected plate, board, cap or surface`},
		"too small": {Plate, 63, "size: expected 64 to 2048 pixels, found 63"},
		"too large": {Plate, 2049, "size: expected 64 to 2048 pixels, found 2049"},
	} {
		if _, err := New(test.kind, 1, test.size); err == nil || err.Error() != test.want {
			t.Errorf("%s: want %q, found %v", name, test.want, err)
		}
	}
}

func TestFixedPoint(t *testing.T) {
	for angle := int64(-turn); angle <= turn; angle += 37 {
		exact := math.Sin(float64(angle) / turn * 2 * math.Pi)
		if found := float64(sine(angle)) / one; math.Abs(found-exact) > 3e-5 {
			t.Errorf("sine of %d: want %v, found %v", angle, exact, found)
		}
	}
	for _, n := range []int64{0, 1, 2, 3, 4, 8, 9, 15, 16, 17, 1<<34 - 1, 1 << 34, 1<<40 + 12345, 1<<62 - 1} {
		if r := root(n); r*r > n || (r+1)*(r+1) <= n {
			t.Errorf("root of %d: found %d", n, r)
		}
	}
}

func TestBelt(t *testing.T) {
	belt, err := NewBelt("plate?size=64&count=200&defective=30")
	if err != nil {
		t.Fatal(err)
	}
	defective := 0
	for number := range 200 {
		if belt.Finished() {
			t.Fatalf("finished after %d parts", number)
		}
		name, part := belt.Next()
		want := fmt.Sprintf("plate-%06d-good", number)
		if part.Defect != "" {
			defective++
			want = fmt.Sprintf("plate-%06d-%s-%s", number, part.Defect, part.Severity)
		}
		if name != want || part.Size != 64 || (part.Mask == nil) != (part.Defect == "") {
			t.Errorf("want %s, found %s", want, name)
		}
	}
	if defective < 40 || defective > 80 {
		t.Errorf("want about 60 defective parts, found %d", defective)
	}
	if _, part := belt.Next(); part != nil || !belt.Finished() {
		t.Error("want the end after 200 parts")
	}
}
