package capture

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func touch(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Names are bytes: what an old camera wrote in Latin-1 is a picture too, and a
// folder may be a link.
func TestFindFilesOfAnyName(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "pictures/pr\xfcfling.png")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "pictures"), link); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{filepath.Join(dir, "pictures"), link, link + "/"} {
		files, err := FindFiles([]string{folder}, "")
		if err != nil {
			t.Fatal(err)
		}
		want := File{Path: filepath.Join(folder, "pr\xfcfling.png"), Rel: "pr\xfcfling.png"}
		if len(files) != 1 || files[0] != want {
			t.Errorf("%s: want %v, found %v", folder, want, files)
		}
	}
}

func TestFindFilesWithout(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "a.png", "trace/a.overlay.png", "trace2/b.png")
	for without, want := range map[string]int{"": 3, filepath.Join(dir, "trace"): 2, dir + "/./trace/": 2, filepath.Join(dir, "absent"): 3} {
		if files, err := FindFiles([]string{dir}, without); err != nil || len(files) != want {
			t.Errorf("without %q: want %d files, found %v, %v", without, want, files, err)
		}
	}
}

func TestFindFiles(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "b.png", "a/2.JPG", "a/10.jpeg", "a-b/1.tif", "a/deep/er/x.bmp", "c.tiff",
		"license.txt", "noise.npy", ".hidden.png", ".cache/y.png", "named.dat")
	if err := os.Symlink(filepath.Join(dir, "b.png"), filepath.Join(dir, "z.png")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "link.png")); err != nil {
		t.Fatal(err)
	}
	files, err := FindFiles([]string{filepath.Join(dir, "named.dat"), dir}, "")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		found = append(found, file.Rel)
		if !strings.HasPrefix(file.Path, dir) || !strings.HasSuffix(file.Path, file.Rel) {
			t.Errorf("path of %s: found %s", file.Rel, file.Path)
		}
	}
	// In the order of the paths; a file that is named is taken whatever it is.
	want := []string{"named.dat", "a-b/1.tif", "a/10.jpeg", "a/2.JPG", "a/deep/er/x.bmp", "b.png", "c.tiff", "z.png"}
	if !slices.Equal(found, want) {
		t.Errorf("want %v, found %v", want, found)
	}
}

func TestFindFilesBelowALinkedFolder(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "real/a.png")
	if err := os.Symlink(filepath.Join(dir, "real"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	files, err := FindFiles([]string{filepath.Join(dir, "link")}, "")
	if err != nil || len(files) != 1 || files[0].Rel != "a.png" {
		t.Errorf("want a.png, found %v, %v", files, err)
	}
}

func TestFindFilesRefuses(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "license.txt")
	for argument, want := range map[string]string{
		filepath.Join(dir, "absent"): "no such picture or folder",
		dir:                          "no pictures below this folder; expected files that end in .png, .jpg",
	} {
		if _, err := FindFiles([]string{argument}, ""); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), argument) {
			t.Errorf("%s: want an error with %q, found %v", argument, want, err)
		}
	}
}
