// Package evaluate measures a model on a labelled set as the field reports it,
// learns thresholds from good parts, and writes the reports of both.
package evaluate

import (
	"math"
	"slices"
)

// Ranking says how well scores tell positives (defective) from negatives
// (good), for any threshold. Values are fractions; all are NaN where one of the
// two is missing.
type Ranking struct {
	// AUROC is the area under the receiver operating characteristic, ties
	// counting half.
	AUROC float64
	// AP is the average precision: the sum over falling thresholds of precision
	// times the recall gained, without interpolation.
	AP float64
	// F1Max is the highest harmonic mean of precision and recall.
	F1Max float64
}

// RatePoint is a point of a receiver operating characteristic.
type RatePoint struct{ FalsePositive, TruePositive float64 }

// Rank computes a [Ranking] and its curve at every distinct score. It sorts
// both slices. The definitions are scikit-learn's (roc_auc_score,
// average_precision_score, precision_recall_curve), which the published tables
// use.
func Rank[T float32 | float64](positives, negatives []T) (Ranking, []RatePoint) {
	var curve []RatePoint
	ranking := rank(positives, negatives, func(point RatePoint) { curve = append(curve, point) })
	return ranking, curve
}

func rank[T float32 | float64](positives, negatives []T, visit func(RatePoint)) Ranking {
	if len(positives) == 0 || len(negatives) == 0 {
		return Ranking{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(positives)
	slices.Sort(negatives)
	all, none := float64(len(positives)), float64(len(negatives))
	visit(RatePoint{})
	var ranking Ranking
	p, n := len(positives), len(negatives) // those below the threshold
	for p > 0 || n > 0 {
		var threshold T
		switch {
		case p == 0:
			threshold = negatives[n-1]
		case n == 0:
			threshold = positives[p-1]
		default:
			threshold = max(positives[p-1], negatives[n-1])
		}
		tpBefore, fpBefore := float64(len(positives)-p), float64(len(negatives)-n)
		for p > 0 && positives[p-1] == threshold {
			p--
		}
		for n > 0 && negatives[n-1] == threshold {
			n--
		}
		tp, fp := float64(len(positives)-p), float64(len(negatives)-n)
		ranking.AUROC += (fp - fpBefore) * (tp + tpBefore) / 2
		ranking.AP += (tp - tpBefore) * tp / (tp + fp)
		ranking.F1Max = max(ranking.F1Max, 2*tp/(all+tp+fp))
		visit(RatePoint{fp / none, tp / all})
	}
	ranking.AUROC /= all * none
	ranking.AP /= all
	return ranking
}

// aurocInterval is a 95 % interval of the AUROC by DeLong's variance ("Comparing
// the Areas under Two or More Correlated Receiver Operating Characteristic
// Curves", 1988), taken on the logit's scale, which keeps it within 0 and 1. NaN
// where there is no variance to be had: fewer than two of a kind, or an AUROC of 0 or 1.
func aurocInterval(positives, negatives []float64) (low, high float64) {
	positives, negatives = slices.Sorted(slices.Values(positives)), slices.Sorted(slices.Values(negatives))
	auroc, ofPositives := placements(positives, negatives)
	_, ofNegatives := placements(negatives, positives)
	deviation := math.Sqrt(ofPositives/float64(len(positives)) + ofNegatives/float64(len(negatives)))
	logit, reach := math.Log(auroc/(1-auroc)), 1.959964*deviation/(auroc*(1-auroc))
	if math.IsNaN(reach) || math.IsInf(logit, 0) {
		return math.NaN(), math.NaN()
	}
	return 1 / (1 + math.Exp(reach-logit)), 1 / (1 + math.Exp(-reach-logit))
}

// placements returns mean and variance of the share of `others` that lies below
// each of `values`, ties counting half; both are sorted.
func placements(values, others []float64) (mean, variance float64) {
	below, notAbove := 0, 0
	shares := make([]float64, len(values))
	for i, value := range values {
		for below < len(others) && others[below] < value {
			below++
		}
		for notAbove < len(others) && others[notAbove] <= value {
			notAbove++
		}
		shares[i] = float64(below+notAbove) / float64(2*len(others))
		mean += shares[i] / float64(len(values))
	}
	for _, share := range shares {
		variance += (share - mean) * (share - mean) / float64(len(values)-1)
	}
	return mean, variance
}
