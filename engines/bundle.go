// Package engines loads a bundle, the folder that holds a model, and declares
// the calls to its networks. The backends that run them are folders of their
// own below this one.
package engines

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// GraphName names one of a bundle's networks.
type GraphName string

// The networks of every bundle.
const (
	VAEEncoder GraphName = "vae_encoder"
	UNet       GraphName = "unet"
	VAEDecoder GraphName = "vae_decoder"
	DINOGate   GraphName = "dino_gate"
	DINOScore  GraphName = "dino_score"
)

// GraphNames are the networks of every bundle, in the order of their use.
var GraphNames = []GraphName{VAEEncoder, UNet, VAEDecoder, DINOGate, DINOScore}

func (g Graphs) file(name GraphName) GraphFile {
	switch name {
	case VAEEncoder:
		return g.VAEEncoder
	case UNet:
		return g.UNet
	case VAEDecoder:
		return g.VAEDecoder
	case DINOGate:
		return g.DINOGate
	case DINOScore:
		return g.DINOScore
	}
	panic("engines: no graph " + string(name))
}

// Bundle is a bundle whose manifest and digests were checked. Whether its
// graphs keep the contract shows when a backend opens them.
type Bundle struct {
	Dir      string
	Manifest Manifest
	// ManifestDigest is the hex SHA-256 of bundle.yaml.
	ManifestDigest string
	// ModelDigest identifies what determines a score; see the design of the
	// bundle. Thresholds are no part of it.
	ModelDigest string
	// Calibrations is what stands in calibrations.yaml, if there is one.
	Calibrations []Calibration
}

// Load reads and checks the bundle in a folder. Errors name the file, the
// field, and what was expected.
func Load(dir string) (*Bundle, error) {
	if dir == "" {
		return nil, errors.New("bundle: expected a folder, found an empty name")
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("bundle %s: expected the bundle's folder, found a file", dir)
	}
	path := filepath.Join(dir, ManifestFile)
	data, err := readRegular(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if info, statErr := os.Stat(dir); statErr != nil || !info.IsDir() {
			return nil, fmt.Errorf("bundle %s: no such folder", dir)
		}
		return nil, fmt.Errorf("bundle %s: no %s in it; expected a folder with %[2]s and ONNX graphs", dir, ManifestFile)
	case err != nil:
		return nil, fmt.Errorf("bundle %s: %w", dir, err)
	}
	manifest, err := parseManifest(path, data)
	if err != nil {
		return nil, err
	}
	bundle := &Bundle{Dir: dir, Manifest: manifest, ManifestDigest: hexDigest(data)}
	for _, name := range GraphNames {
		if err := bundle.verifyGraph(name); err != nil {
			return nil, err
		}
	}
	bundle.ModelDigest = manifest.modelDigest()
	bundle.Calibrations, err = loadCalibrations(filepath.Join(dir, CalibrationsFile))
	if err != nil {
		return nil, err
	}
	return bundle, nil
}

// verifyGraph checks the digests of a graph's files, and that it takes weights
// from no other file: ONNX Runtime would open whatever the graph names, and the
// graph's own digest would prove nothing.
func (b *Bundle) verifyGraph(name GraphName) error {
	file := b.Manifest.Graphs.file(name)
	key := "graphs." + string(name)
	path := b.Graph(name).Path
	data, err := b.ReadGraph(name)
	if err != nil {
		return err
	}
	locations, err := externalLocations(data)
	if err != nil {
		return fmt.Errorf("%s: not an ONNX file: %w", path, err)
	}
	for _, location := range locations {
		listed := func(external DigestedFile) bool { return external.File == location }
		if !slices.ContainsFunc(file.ExternalData, listed) {
			return fmt.Errorf("%s: takes weights from %q, which %s.external_data in %s does not list", path, location, key, ManifestFile)
		}
	}
	for i, external := range file.ExternalData {
		if err := b.verifyExternal(fmt.Sprintf("%s.external_data.%d", key, i), external); err != nil {
			return err
		}
	}
	return nil
}

// verifyExternal compares a file with its digest. It may be large and is not
// held in memory.
func (b *Bundle) verifyExternal(key string, file DigestedFile) error {
	path := filepath.Join(b.Dir, file.File)
	opened, err := openRegular(path)
	if err != nil {
		return fmt.Errorf("%s: named by %s in %s: %w", path, key, ManifestFile, withoutPath(err))
	}
	defer opened.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, opened); err != nil {
		return fmt.Errorf("%s: named by %s in %s: %w", path, key, ManifestFile, withoutPath(err))
	}
	return compareDigest(path, key, file, hash.Sum(nil))
}

func compareDigest(path, key string, file DigestedFile, sum []byte) error {
	if found := hex.EncodeToString(sum); found != file.SHA256 {
		return fmt.Errorf("%s: wrong content: %s.sha256 in %s expects %s, found %s; the file is damaged or of another version, copy the whole bundle again",
			path, key, ManifestFile, file.SHA256, found)
	}
	return nil
}

// Graph is a checked ONNX file.
type Graph struct {
	Name GraphName
	Path string
}

// Graph returns one of the bundle's graphs.
func (b *Bundle) Graph(name GraphName) Graph {
	return Graph{Name: name, Path: filepath.Join(b.Dir, b.Manifest.Graphs.file(name).File)}
}

// ReadGraph reads a graph's file and compares it with its digest: the file may
// have changed since the bundle was loaded.
func (b *Bundle) ReadGraph(name GraphName) ([]byte, error) {
	file := b.Manifest.Graphs.file(name)
	key := "graphs." + string(name)
	path := filepath.Join(b.Dir, file.File)
	data, err := readRegular(path)
	if err != nil {
		return nil, fmt.Errorf("%s: named by %s in %s: %w", path, key, ManifestFile, withoutPath(err))
	}
	sum := sha256.Sum256(data)
	return data, compareDigest(path, key, file.DigestedFile, sum[:])
}

// GraphDigest is the hex SHA-256 of the digests of a graph's file and of the files
// with its weights.
func (b *Bundle) GraphDigest(name GraphName) string {
	file := b.Manifest.Graphs.file(name)
	digests := []string{file.SHA256}
	for _, external := range file.ExternalData {
		digests = append(digests, external.SHA256)
	}
	return hexDigest([]byte(strings.Join(digests, "\n")))
}

// ExternalData are the paths of the files beside a graph that hold its larger
// weights.
func (b *Bundle) ExternalData(name GraphName) (paths []string) {
	for _, external := range b.Manifest.Graphs.file(name).ExternalData {
		paths = append(paths, filepath.Join(b.Dir, external.File))
	}
	return paths
}

// Verify compares a graph's file and the files with its weights with their digests
// once more: they may have changed since the bundle was loaded.
func (b *Bundle) Verify(name GraphName) error { return b.verifyGraph(name) }

// HasExternalData says that a graph takes weights from files beside it.
func (b *Bundle) HasExternalData(name GraphName) bool {
	return len(b.Manifest.Graphs.file(name).ExternalData) > 0
}

// modelDigest is the hex SHA-256 of lines that name what determines a score.
func (m Manifest) modelDigest() string {
	var digests []string
	for _, name := range GraphNames {
		graph := m.Graphs.file(name)
		digests = append(digests, graph.SHA256)
		for _, external := range graph.ExternalData {
			digests = append(digests, external.SHA256)
		}
	}
	slices.Sort(digests)

	var lines bytes.Buffer
	lines.WriteString("gladd.model/v1\n")
	for _, digest := range digests {
		lines.WriteString(digest + "\n")
	}
	decimal := func(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) }
	fmt.Fprintf(&lines, "image %d %d\n", m.Image.Width, m.Image.Height)
	fmt.Fprintf(&lines, "latent %d %d %d %s\n", m.Latent.Channels, m.Latent.Width, m.Latent.Height, m.Latent.Encode)
	fmt.Fprintf(&lines, "schedule %d %s %s %s %d %t\n", m.Schedule.TrainTimesteps, m.Schedule.BetaSchedule,
		decimal(m.Schedule.BetaStart), decimal(m.Schedule.BetaEnd), m.Schedule.StepsOffset, m.Schedule.SetAlphaToOne)
	return hexDigest(lines.Bytes())
}

func hexDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// openRegular opens a file; a pipe, whose opening would wait for a writer, is
// refused.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("expected a file, found one of mode %s", info.Mode())
	}
	return os.Open(path)
}

func readRegular(path string) ([]byte, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// withoutPath drops the path that an error of package os repeats.
func withoutPath(err error) error {
	if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// Class returns the index of a class by name, and checks that one is given
// exactly where the model has classes.
func (m Manifest) Class(name string) (int, error) {
	switch index := slices.Index(m.Classes, name); {
	case len(m.Classes) == 0 && name == "":
		return 0, nil
	case len(m.Classes) == 0:
		return 0, fmt.Errorf("class %q: bundle %s has no classes", name, m.Name)
	case name == "":
		return 0, fmt.Errorf("class: bundle %s has several; name one of %s", m.Name, strings.Join(m.Classes, ", "))
	case index < 0:
		return 0, fmt.Errorf("class %q: bundle %s has none of this name; name one of %s", name, m.Name, strings.Join(m.Classes, ", "))
	default:
		return index, nil
	}
}
