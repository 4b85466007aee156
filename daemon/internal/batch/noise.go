package batch

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"gladd/engines"
	"gladd/internal/npy"
	"gladd/pipeline"
)

// CheckAgainst checks the options that depend on the bundle: the class, and
// that every noise file is there and fits. Nothing was inspected yet.
func (b *Batch) CheckAgainst(bundle *engines.Bundle) error {
	class, err := bundle.Manifest.Class(b.options.Class)
	if err != nil {
		return err
	}
	b.class = class
	if b.options.EncodeNoiseDir != "" && bundle.Manifest.Latent.Encode != engines.EncodeSample {
		return fmt.Errorf("encode noise %s: bundle %s takes the latent's mean (latent.encode: mean) and uses no such noise; leave --encode-noise out",
			b.options.EncodeNoiseDir, bundle.Manifest.Name)
	}
	latent := pipeline.Latent{
		Channels: bundle.Manifest.Latent.Channels,
		Height:   bundle.Manifest.Latent.Height,
		Width:    bundle.Manifest.Latent.Width,
	}
	for i := range b.items {
		item := &b.items[i]
		if item.noise, err = findNoise(b.options.NoiseDir, item.Rel); err != nil {
			return fmt.Errorf("noise of %s: %w", item.Path, err)
		}
		if item.encodeNoise, err = findNoise(b.options.EncodeNoiseDir, item.Rel); err != nil {
			return fmt.Errorf("encode noise of %s: %w", item.Path, err)
		}
		if _, _, err := item.readNoise(latent); err != nil {
			return err
		}
	}
	return nil
}

// findNoise returns the path of a picture's noise: <stem>.npy at the picture's
// place below the folder or, failing that, directly in it.
func findNoise(dir, rel string) (string, error) {
	if dir == "" {
		return "", nil
	}
	name := strings.TrimSuffix(rel, filepath.Ext(rel)) + ".npy"
	for _, path := range []string{filepath.Join(dir, name), filepath.Join(dir, filepath.Base(name))} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("%s: missing", filepath.Join(dir, name))
}

// readNoise reads the noise that replaces the generated one; nil where none
// does.
func (item *item) readNoise(latent pipeline.Latent) (noise, encodeNoise []float32, err error) {
	if noise, err = readNoiseFile(item.noise, latent); err != nil {
		return nil, nil, err
	}
	encodeNoise, err = readNoiseFile(item.encodeNoise, latent)
	return noise, encodeNoise, err
}

func readNoiseFile(path string, latent pipeline.Latent) ([]float32, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("noise: %w", err)
	}
	noise, err := npy.Decode(file, latent.Channels, latent.Height, latent.Width)
	if err != nil {
		return nil, fmt.Errorf("noise %s: %w", path, err)
	}
	for i, value := range noise {
		if math.IsNaN(float64(value)) || math.IsInf(float64(value), 0) {
			return nil, fmt.Errorf("noise %s: expected finite numbers, found %v at index %d", path, value, i)
		}
	}
	return noise, nil
}
