package evaluate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"html/template"
	"image/jpeg"
	"image/png"
	"slices"

	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/overlay"
	"gladd/daemon/internal/verdict"
)

// worstShown is the number of pictures shown of each sort and class.
const worstShown = 4

// worstPart is a part that scored far on the wrong side.
type worstPart struct {
	Name    string
	Score   float64
	Overlay template.URL // a data URI
}

// drawWorst draws the good parts with the highest and the defective ones with
// the lowest scores of each class. It inspects them again: the same picture
// gives the same reconstruction, which is too large to be kept for all.
func (r *Report) drawWorst(ctx context.Context, model *inspection.Model, classes []*classRun) error {
	for c, class := range classes {
		var good, defective []int
		for i, picture := range class.Pictures {
			switch {
			case class.results[i].Score == nil:
			case picture.Good():
				good = append(good, i)
			default:
				defective = append(defective, i)
			}
		}
		byScore := func(a, b int) int { return cmp.Compare(*class.results[a].Score, *class.results[b].Score) }
		slices.SortStableFunc(defective, byScore)
		slices.SortStableFunc(good, func(a, b int) int { return byScore(b, a) })
		for _, i := range slices.Concat(defective[:min(worstShown, len(defective))], good[:min(worstShown, len(good))]) {
			part, err := drawPart(ctx, model, class, i)
			if err != nil {
				return err
			}
			r.order[c].Worst = append(r.order[c].Worst, part)
		}
	}
	return nil
}

func drawPart(ctx context.Context, model *inspection.Model, class *classRun, i int) (worstPart, error) {
	part := worstPart{Name: class.Pictures[i].Name, Score: *class.results[i].Score}
	outcome := inspectFile(ctx, model, class.Pictures[i].Path, class.index)
	if ctx.Err() != nil {
		return part, ctx.Err()
	}
	if !outcome.Scored {
		return part, nil // it was said when it was inspected first
	}
	content := overlay.Content{
		Title:          part.Name,
		Evaluation:     outcome.Evaluation,
		Reason:         outcome.Reason,
		Score:          outcome.Result.Score,
		Width:          outcome.PreparedWidth,
		Height:         len(outcome.Prepared) / 3 / outcome.PreparedWidth,
		Picture:        outcome.Prepared,
		Reconstruction: outcome.Result.Reconstruction,
		AnomalyMap:     outcome.Result.AnomalyMap,
		MapSize:        outcome.MapSize,
	}
	if calibration := model.Calibrations[class.index]; calibration != nil {
		content.ImageThreshold = &calibration.ImageThreshold
		content.Evaluation, content.Reason = verdict.Evaluate(outcome.Result.Score, inspection.Thresholds(calibration))
	}
	var drawn, compressed bytes.Buffer
	if err := overlay.Write(&drawn, content); err != nil {
		return part, err
	}
	picture, err := png.Decode(&drawn)
	if err != nil {
		return part, err
	}
	if err := jpeg.Encode(&compressed, picture, &jpeg.Options{Quality: 85}); err != nil {
		return part, err
	}
	part.Overlay = template.URL("data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(compressed.Bytes()))
	return part, nil
}
