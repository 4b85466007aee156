package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// File is a picture file found by [FindFiles].
type File struct {
	// Path opens the file.
	Path string
	// Rel is the path relative to the argument under which it was found; the
	// base name for an argument that is a file itself.
	Rel string
}

// extensions of the files that are taken from a folder; a file that is named
// itself may have any.
var extensions = []string{".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}

// FindFiles lists the pictures named by arguments: files themselves, and the
// picture files below folders, in the order of their paths. Hidden files and
// folders are passed over, and so is the folder named by without, unless that is
// empty. An argument that does not exist and a folder
// without pictures are errors.
func FindFiles(arguments []string, without string) ([]File, error) {
	var files []File
	for _, argument := range arguments {
		if argument == "" {
			return nil, errors.New("picture: expected a file or folder, found an empty name")
		}
		info, err := os.Stat(argument)
		if err != nil {
			return nil, fmt.Errorf("no such picture or folder: %w", err)
		}
		if !info.IsDir() {
			files = append(files, File{Path: argument, Rel: filepath.Base(argument)})
			continue
		}
		found, err := findBelow(argument, without)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s: no pictures below this folder; expected files that end in %s", argument, strings.Join(extensions, ", "))
		}
		files = append(files, found...)
	}
	return files, nil
}

func findBelow(folder, without string) ([]File, error) {
	var files []File
	excluded, _ := os.Stat(without) // one that does not exist holds nothing
	// Not through os.DirFS, which takes only names in UTF-8. The separator at the
	// end follows a folder that is a link.
	err := filepath.WalkDir(folder+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		if entry.IsDir() && rel != "." && excluded != nil {
			if info, err := entry.Info(); err == nil && os.SameFile(info, excluded) {
				return fs.SkipDir
			}
		}
		if rel != "." && strings.HasPrefix(entry.Name(), ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() || !slices.Contains(extensions, strings.ToLower(filepath.Ext(rel))) {
			return nil
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return nil // a link to a folder
		}
		files = append(files, File{Path: filepath.Join(folder, rel), Rel: rel})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("pictures below %s: %w", folder, err)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Rel, b.Rel) })
	return files, nil
}
