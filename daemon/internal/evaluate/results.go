package evaluate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
	"gladd/internal/npy"
)

// method is what a stored result depends on beside its picture. Thresholds of
// scores are no part of it: they are applied to the results.
type method struct {
	Schema      string         `json:"schema"`
	ModelDigest string         `json:"model_digest"`
	Method      engines.Method `json:"method"`
	Class       string         `json:"class"`     // of every part; empty: each its own
	Gates       string         `json:"gates"`     // the gate threshold of each class
	Locations   string         `json:"locations"` // for each class, the digest of the statistics that maps are standardised by
}

const methodSchema = "gladd.eval/v1"

// methodFile tells with what a folder's results were made.
const methodFile = "method.json"

// store keeps the results of pictures in a folder, so that work that was cut
// short goes on.
type store struct{ dir string }

// openStore makes a folder for results, or takes up one of the same method.
func openStore(dir string, now method) (*store, error) {
	path := filepath.Join(dir, methodFile)
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		entries, err := os.ReadDir(dir)
		if err == nil && len(entries) > 0 {
			return nil, fmt.Errorf("results: expected a new or an empty folder, or one of an earlier evaluation, found %s in %s", entries[0].Name(), dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("results: %w", err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("results: %w", err)
		}
		encoded, err := verdict.JSON(now)
		if err != nil {
			return nil, err
		}
		if err := renameio.WriteFile(path, append(encoded, '\n'), 0o644); err != nil {
			return nil, fmt.Errorf("results: %w", err)
		}
	case err != nil:
		return nil, fmt.Errorf("results: %w", err)
	default:
		var before method
		if err := json.Unmarshal(content, &before); err != nil {
			return nil, fmt.Errorf("results: %s: %w", path, err)
		}
		if before != now {
			encoded, err := verdict.JSON(now)
			if err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("results: %s holds those of another model or method: expected %s, found %s; name another folder, or remove this one", dir, encoded, bytes.TrimSpace(content))
		}
	}
	return &store{dir: dir}, nil
}

// Result is what was found in one picture.
type Result struct {
	// Bytes and Modified tell the picture from one that took its place.
	Bytes    int64                `json:"bytes"`
	Modified int64                `json:"modified"` // Unix nanoseconds
	Score    *float64             `json:"score"`    // null without a completed inspection
	Reason   *verdict.Reason      `json:"reason"`   // why there is none
	Details  *verdict.Diagnostics `json:"diagnostics"`
	Health   capture.Health       `json:"health"`
}

func (s *store) path(class string, picture Picture, ending string) string {
	return filepath.Join(s.dir, "results", class, picture.Name+ending)
}

// find returns a picture's result; nil: there is none yet.
func (s *store) find(class string, picture Picture) (*Result, error) {
	content, err := os.ReadFile(s.path(class, picture, ".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	result := &Result{}
	if err := json.Unmarshal(content, result); err != nil {
		return nil, nil //nolint:nilerr // a damaged result is made anew
	}
	info, err := os.Stat(picture.Path)
	if err != nil || info.Size() != result.Bytes || info.ModTime().UnixNano() != result.Modified || result.Score == nil {
		return nil, nil //nolint:nilerr // another picture, or one that is tried again
	}
	return result, nil
}

// add keeps an outcome.
func (s *store) add(class string, picture Picture, outcome inspection.Outcome) (*Result, error) {
	result := &Result{Reason: outcome.Reason, Details: outcome.Diagnostics(0)}
	if info, err := os.Stat(picture.Path); err == nil {
		result.Bytes, result.Modified = info.Size(), info.ModTime().UnixNano()
	}
	path := s.path(class, picture, ".json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	if outcome.Scored {
		score := outcome.Result.Score
		result.Score, result.Reason = &score, nil
		result.Health = outcome.Health()
		// The map first: a result that is there is whole.
		content := npy.Encode(outcome.Result.AnomalyMap, outcome.MapSize, outcome.MapSize)
		if err := renameio.WriteFile(s.path(class, picture, ".anomaly_map.npy"), content, 0o644); err != nil {
			return nil, fmt.Errorf("result: %w", err)
		}
	}
	encoded, err := verdict.JSON(result)
	if err != nil {
		return nil, err
	}
	if err := renameio.WriteFile(path, append(encoded, '\n'), 0o644); err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	return result, nil
}

// anomalyMap reads a picture's map.
func (s *store) anomalyMap(class string, picture Picture, size int) ([]float32, error) {
	path := s.path(class, picture, ".anomaly_map.npy")
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	values, err := npy.Decode(content, size, size)
	if err != nil {
		return nil, fmt.Errorf("result %s: %w; remove the file and run again", path, err)
	}
	if slices.ContainsFunc(values, func(value float32) bool { return value != value }) {
		return nil, fmt.Errorf("result %s: holds NaN; remove the file and run again", path)
	}
	return values, nil
}
