package engines

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"github.com/google/renameio/v2"

	"gladd/internal/npy"
)

// WriteLocation writes what a calibration learned about good parts' maps, mean
// and std [S,S], beside the manifest: calibrations refer to the file. It is
// written whole.
func WriteLocation(dir, calibrationID string, side int, mean, std []float32) (DigestedFile, error) {
	content := npy.Encode(append(append([]float32(nil), mean...), std...), 2, side, side)
	name := "location-" + calibrationID + ".npy"
	if err := renameio.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
		return DigestedFile{}, fmt.Errorf("location statistics: %w", err)
	}
	sum := sha256.Sum256(content)
	return DigestedFile{File: name, SHA256: hex.EncodeToString(sum[:])}, nil
}

// Location reads the statistics of a calibration of this bundle; mean and std
// are [S,S], nil where it has none.
func (b *Bundle) Location(calibration *Calibration) (mean, std []float32, err error) {
	if calibration.Location == nil {
		return nil, nil, nil
	}
	path := filepath.Join(b.Dir, calibration.Location.File)
	refuse := func(err error) error {
		return fmt.Errorf("calibration %s: location statistics %s: %w; install the bundle again, or calibrate again", calibration.ID, path, err)
	}
	side := b.Manifest.Score.MapSize
	content, err := readRegular(path)
	if err != nil {
		return nil, nil, refuse(err)
	}
	sum := sha256.Sum256(content)
	if found := hex.EncodeToString(sum[:]); found != calibration.Location.SHA256 {
		return nil, nil, refuse(fmt.Errorf("expected SHA-256 %s, found %s", calibration.Location.SHA256, found))
	}
	values, err := npy.Decode(content, 2, side, side)
	if err != nil {
		return nil, nil, refuse(err)
	}
	return values[:side*side], values[side*side:], nil
}
