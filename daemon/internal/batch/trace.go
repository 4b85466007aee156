package batch

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/overlay"
	"gladd/internal/npy"
	"gladd/pipeline"
)

// placeTraces gives every picture its place below the trace folder and makes
// sure that no two share one and that the overlays do not become pictures of
// the next run: a trace folder below the pictures is left out of the search.
func (b *Batch) placeTraces(dir string) error {
	for _, pictures := range b.options.Pictures {
		if same, err := sameFolder(pictures, dir); err != nil {
			return fmt.Errorf("trace folder: %w", err)
		} else if same {
			return fmt.Errorf("trace folder %s holds the pictures, and its overlays would be inspected the next time; name a folder of its own", dir)
		}
	}
	taken := map[string]string{}
	for i := range b.items {
		item := &b.items[i]
		item.trace = filepath.Join(dir, strings.TrimSuffix(item.Rel, filepath.Ext(item.Rel)))
		if other, found := taken[item.trace]; found {
			if filepath.Clean(other) == filepath.Clean(item.Path) {
				return fmt.Errorf("trace: %s is named twice, and its trace can be written once", item.Path)
			}
			return fmt.Errorf("trace: %s and %s would both be written to %s.json; inspect them in separate calls with a trace folder each",
				other, item.Path, item.trace)
		}
		taken[item.trace] = item.Path
	}
	return nil
}

// makeTraceDir makes the trace folder and shows that it can be written to.
func makeTraceDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("trace folder: %w", err)
	}
	probe, err := os.CreateTemp(dir, ".gladd-*")
	if err != nil {
		return fmt.Errorf("trace folder: %w", err)
	}
	probe.Close()
	return os.Remove(probe.Name())
}

// sameFolder says whether two paths are one folder.
func sameFolder(a, b string) (bool, error) {
	absoluteA, err := filepath.Abs(a)
	if err != nil {
		return false, err
	}
	absoluteB, err := filepath.Abs(b)
	return absoluteA == absoluteB, err
}

// writeTrace writes a picture's trace files; each is either whole or absent.
func (item *item) writeTrace(parameters pipeline.Parameters, outcome inspection.Outcome, record Record, line []byte) error {
	if err := os.MkdirAll(filepath.Dir(item.trace), 0o755); err != nil {
		return err
	}
	files := map[string][]byte{}
	if outcome.Scored {
		var picture bytes.Buffer
		err := overlay.Write(&picture, overlay.Content{
			Title:          filepath.Base(item.Path),
			Evaluation:     outcome.Evaluation,
			Reason:         outcome.Reason,
			Score:          outcome.Result.Score,
			ImageThreshold: record.ImageThreshold,
			Width:          parameters.Image.Width,
			Height:         parameters.Image.Height,
			Picture:        outcome.Prepared,
			Reconstruction: outcome.Result.Reconstruction,
			AnomalyMap:     outcome.Result.AnomalyMap,
			MapSize:        parameters.Score.MapSize,
		})
		if err != nil {
			return err
		}
		files[".anomaly_map.npy"] = npy.Encode(outcome.Result.AnomalyMap, parameters.Score.MapSize, parameters.Score.MapSize)
		files[".reconstruction.npy"] = npy.Encode(outcome.Result.Reconstruction, 3, parameters.Image.Height, parameters.Image.Width)
		files[".overlay.png"] = picture.Bytes()
	}
	for _, ending := range []string{".anomaly_map.npy", ".reconstruction.npy", ".overlay.png"} {
		content, present := files[ending]
		if !present {
			// What an earlier run left would belong to another result.
			if err := os.Remove(item.trace + ending); err != nil && !os.IsNotExist(err) {
				return err
			}
			continue
		}
		if err := renameio.WriteFile(item.trace+ending, content, 0o644); err != nil {
			return err
		}
	}
	return renameio.WriteFile(item.trace+".json", line, 0o644)
}
