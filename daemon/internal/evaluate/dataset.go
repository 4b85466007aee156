package evaluate

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gladd/capture"
)

// GoodKind is the kind of pictures without a defect.
const GoodKind = "good"

// Picture is a labelled picture of a set.
type Picture struct {
	Path string
	// Name is its path below the class, without the ending.
	Name string
	Kind string // of defect, or good
	Mask string // path; empty where there is none
	// MaskAbove is the value above which a mask's pixel is part of the defect.
	MaskAbove byte
}

// Good says that the picture shows no defect.
func (p Picture) Good() bool { return p.Kind == GoodKind }

// Class is the test pictures of one kind of part.
type Class struct {
	Name     string
	Pictures []Picture
}

const layouts = "a class folder that holds test/good and test/<defect> (MVTec AD, MPDD, PCB-Bank), a folder of such, or VisA's folder with split_csv/1cls.csv"

// FindClasses lists a labelled set: the folder of one class, which holds
// test/<kind> and ground_truth/<kind> (MVTec AD, MPDD, PCB-Bank); a folder of
// such; or the folder of VisA, or of one of its classes, with VisA's own split.
func FindClasses(dir string) ([]Class, error) {
	if err := checkFolder(dir); err != nil {
		return nil, fmt.Errorf("data set: %w", err)
	}
	for _, visa := range []struct{ root, object string }{{dir, ""}, {filepath.Dir(filepath.Clean(dir)), filepath.Base(dir)}} {
		split := filepath.Join(visa.root, "split_csv", "1cls.csv")
		if _, err := os.Stat(split); err == nil {
			return findVisA(visa.root, split, visa.object)
		}
	}
	if checkFolder(filepath.Join(dir, "test")) == nil {
		absolute, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("data set: %w", err)
		}
		class, err := findClass(dir, filepath.Base(absolute))
		if err != nil {
			return nil, err
		}
		return []Class{class}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data set: %w", err)
	}
	var classes []Class
	for _, entry := range entries {
		folder := filepath.Join(dir, entry.Name())
		if checkFolder(filepath.Join(folder, "test")) != nil {
			continue
		}
		class, err := findClass(folder, entry.Name())
		if err != nil {
			return nil, err
		}
		classes = append(classes, class)
	}
	if len(classes) == 0 {
		return nil, fmt.Errorf("data set %s: expected %s; found neither", dir, layouts)
	}
	return classes, nil
}

// SetIn names the folders of a labelled set that lie in a folder, with commas;
// empty: there are none.
func SetIn(dir string) string {
	var found []string
	for _, name := range []string{"train", "test", "ground_truth"} {
		if checkFolder(filepath.Join(dir, name)) == nil {
			found = append(found, name)
		}
	}
	return strings.Join(found, ", ")
}

func checkFolder(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("expected a folder, found the file %s", path)
	}
	return err
}

// findClass lists the test pictures of a class folder.
func findClass(dir, name string) (Class, error) {
	class := Class{Name: name}
	test := filepath.Join(dir, "test")
	kinds, err := os.ReadDir(test)
	if err != nil {
		return class, fmt.Errorf("data set: %w", err)
	}
	loose := 0
	for _, kind := range kinds {
		folder := filepath.Join(test, kind.Name())
		if checkFolder(folder) != nil {
			loose++
			continue
		}
		if strings.HasPrefix(kind.Name(), ".") {
			continue
		}
		files, err := capture.FindFiles([]string{folder}, "")
		if err != nil {
			continue // a kind without pictures
		}
		for _, file := range files {
			stem := strings.TrimSuffix(file.Rel, filepath.Ext(file.Rel))
			picture := Picture{Path: file.Path, Name: filepath.Join(kind.Name(), stem), Kind: kind.Name(), MaskAbove: 127}
			if !picture.Good() {
				picture.Mask = findMask(filepath.Join(dir, "ground_truth", kind.Name(), stem))
			}
			class.Pictures = append(class.Pictures, picture)
		}
	}
	if len(class.Pictures) == 0 {
		err := fmt.Errorf("data set %s: no pictures; expected %s", test, layouts)
		if loose > 0 {
			err = fmt.Errorf("%w; the files in the folder itself have no kind: move good ones to test/good", err)
		}
		return class, err
	}
	return class, checkNames(class)
}

// findMask looks for the mask of a picture: MVTec AD and MPDD name it
// <stem>_mask, PCB-Bank and the usual form of VisA <stem>.
func findMask(stem string) string {
	for _, suffix := range []string{"_mask", ""} {
		for _, extension := range []string{".png", ".PNG", ".bmp", ".tif", ".tiff", ".jpg"} {
			if _, err := os.Stat(stem + suffix + extension); err == nil {
				return stem + suffix + extension
			}
		}
	}
	return ""
}

// checkNames refuses two pictures whose results would have one name.
func checkNames(class Class) error {
	paths := map[string]string{}
	for _, picture := range class.Pictures {
		if other, taken := paths[picture.Name]; taken {
			return fmt.Errorf("data set: %s and %s differ in their endings only; rename one", other, picture.Path)
		}
		paths[picture.Name] = picture.Path
	}
	return nil
}

// findVisA lists VisA's test pictures by its split, all objects or one.
func findVisA(root, split, object string) ([]Class, error) {
	file, err := os.Open(split)
	if err != nil {
		return nil, fmt.Errorf("data set: %w", err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("data set: split %s: %w", split, err)
	}
	columns := []string{"object", "split", "label", "image", "mask"}
	if len(rows) == 0 || !slices.Equal(rows[0], columns) {
		return nil, fmt.Errorf("data set: split %s: expected the columns %s, found %s", split, strings.Join(columns, ","), strings.Join(slices.Concat(rows[:min(1, len(rows))]...), ","))
	}
	byName := map[string]*Class{}
	var names []string
	for line, row := range rows[1:] {
		name, part, kind, image, mask := row[0], row[1], row[2], row[3], row[4]
		if part != "test" || object != "" && name != object {
			continue
		}
		if !filepath.IsLocal(image) || mask != "" && !filepath.IsLocal(mask) {
			return nil, fmt.Errorf("data set: split %s, line %d: expected paths below %s, found %s %s", split, line+2, root, image, mask)
		}
		if byName[name] == nil {
			byName[name] = &Class{Name: name}
			names = append(names, name)
		}
		if kind == "normal" {
			kind = GoodKind
		}
		// VisA's masks hold the number of the defect's kind: 1 is a defect.
		picture := Picture{Path: filepath.Join(root, image), Kind: kind, MaskAbove: 0}
		base := filepath.Base(image)
		picture.Name = filepath.Join(kind, strings.TrimSuffix(base, filepath.Ext(base)))
		if mask != "" && kind != GoodKind {
			picture.Mask = filepath.Join(root, mask)
			if _, err := os.Stat(picture.Mask); errors.Is(err, fs.ErrNotExist) {
				picture.Mask = ""
			}
		}
		byName[name].Pictures = append(byName[name].Pictures, picture)
	}
	var classes []Class
	for _, name := range names {
		if err := checkNames(*byName[name]); err != nil {
			return nil, err
		}
		classes = append(classes, *byName[name])
	}
	if len(classes) == 0 {
		return nil, fmt.Errorf("data set: split %s names no test pictures of %s", split, filepath.Join(root, object))
	}
	return classes, nil
}
