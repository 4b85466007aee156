package evaluate

import (
	"encoding/json"
	"math"
)

// Fraction is a figure from 0 to 1; NaN, null in JSON, where it is not defined.
type Fraction float64

// MarshalJSON implements [json.Marshaler].
func (f Fraction) MarshalJSON() ([]byte, error) {
	if !f.Defined() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// Defined says that there is such a figure.
func (f Fraction) Defined() bool { return !math.IsNaN(float64(f)) }

// Figures are the seven of the paper's tables.
type Figures struct {
	ImageAUROC Fraction `json:"image_auroc"`
	ImageAP    Fraction `json:"image_ap"`
	ImageF1Max Fraction `json:"image_f1max"`
	PixelAUROC Fraction `json:"pixel_auroc"`
	PixelAP    Fraction `json:"pixel_ap"`
	PixelF1Max Fraction `json:"pixel_f1max"`
	PRO        Fraction `json:"pro"`
}

// all lists the figures in the order of the tables.
func (f *Figures) all() []*Fraction {
	return []*Fraction{&f.ImageAUROC, &f.ImageAP, &f.ImageF1Max, &f.PixelAUROC, &f.PixelAP, &f.PixelF1Max, &f.PRO}
}

// figureNames are the tables' column heads.
var figureNames = []string{"I-AUROC", "I-AP", "I-F1max", "P-AUROC", "P-AP", "P-F1max", "PRO"}

// meanFigures is the mean of each figure over the classes that have it.
func meanFigures(classes []Figures) Figures {
	var mean Figures
	for i, into := range mean.all() {
		sum, count := 0.0, 0.0
		for c := range classes {
			if value := *classes[c].all()[i]; value.Defined() {
				sum += float64(value)
				count++
			}
		}
		*into = Fraction(sum / count) // NaN where no class has it
	}
	return mean
}

// scoredMap is a scored picture's map, read when it is needed.
type scoredMap struct {
	defective bool
	score     float64
	read      func() ([]float32, error)
	mask      func() ([]bool, error) // nil for a good part, and for one without a mask
}

// measure computes the figures of one class from its scored pictures, maps of
// [size][size]. Pixels are counted in good pictures and in those with a mask;
// without any mask there are no figures of pixels. It holds one float32 for
// each pixel in memory.
func measure(pictures []scoredMap, size int) (figures Figures, curve []RatePoint, err error) {
	var positives, negatives []float64
	masked, counted := 0, 0
	for _, picture := range pictures {
		if picture.defective {
			positives = append(positives, picture.score)
		} else {
			negatives = append(negatives, picture.score)
		}
		if picture.mask != nil {
			masked++
		}
		if picture.mask != nil || !picture.defective {
			counted++
		}
	}
	ranking, curve := Rank(positives, negatives)
	figures.ImageAUROC, figures.ImageAP, figures.ImageF1Max = Fraction(ranking.AUROC), Fraction(ranking.AP), Fraction(ranking.F1Max)
	figures.PixelAUROC, figures.PixelAP, figures.PixelF1Max, figures.PRO = Fraction(math.NaN()), Fraction(math.NaN()), Fraction(math.NaN()), Fraction(math.NaN())
	if masked == 0 {
		return figures, curve, nil
	}

	// Good pixels from the front, those of defects from the back: their numbers
	// are not known before.
	values := make([]float32, counted*size*size)
	good, bad := 0, len(values)
	lowest, highest := math.Inf(1), math.Inf(-1)
	each := func(visit func(anomalyMap []float32, mask []bool)) error {
		for _, picture := range pictures {
			if picture.defective && picture.mask == nil {
				continue
			}
			anomalyMap, err := picture.read()
			if err != nil {
				return err
			}
			var mask []bool
			if picture.mask != nil {
				if mask, err = picture.mask(); err != nil {
					return err
				}
			}
			visit(anomalyMap, mask)
		}
		return nil
	}
	err = each(func(anomalyMap []float32, mask []bool) {
		for i, value := range anomalyMap {
			lowest, highest = min(lowest, float64(value)), max(highest, float64(value))
			if mask != nil && mask[i] {
				bad--
				values[bad] = value
			} else {
				values[good] = value
				good++
			}
		}
	})
	if err != nil {
		return figures, curve, err
	}
	ranking = rank(values[bad:], values[:good], func(RatePoint) {})
	figures.PixelAUROC, figures.PixelAP, figures.PixelF1Max = Fraction(ranking.AUROC), Fraction(ranking.AP), Fraction(ranking.F1Max)

	overlaps := newOverlap(lowest, highest)
	if err := each(func(anomalyMap []float32, mask []bool) { overlaps.add(anomalyMap, mask, size) }); err != nil {
		return figures, curve, err
	}
	figures.PRO = Fraction(overlaps.pro())
	return figures, curve, nil
}
