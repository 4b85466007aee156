package pipeline

import (
	"errors"
	"fmt"
	"math"
)

// Location holds how the anomaly maps of good parts run at each place: what is
// ordinary at an edge or a print need not be so on a plain face. It serves
// parts that lie still. GLAD itself has no such thing. The zero Location leaves
// maps as they are.
type Location struct {
	mean, std []float32 // [S,S]; finite, every std above 0
}

// NewLocation returns the location of these statistics, mean and std [S,S];
// both nil: the zero Location. Statistics that no map can be standardised with
// are an error.
func NewLocation(mean, std []float32) (*Location, error) {
	if len(mean) != len(std) {
		return nil, fmt.Errorf("location statistics: expected as many means as standard deviations, found %d and %d", len(mean), len(std))
	}
	for i := range mean {
		if m := float64(mean[i]); math.IsNaN(m) || math.IsInf(m, 0) {
			return nil, fmt.Errorf("location statistics: mean %d: expected a finite number, found %v", i, m)
		}
		if s := float64(std[i]); !(s > 0) || math.IsInf(s, 0) {
			return nil, fmt.Errorf("location statistics: standard deviation %d: expected a finite number above 0, found %v", i, s)
		}
	}
	return &Location{mean, std}, nil
}

// Empty says that maps stay as they are.
func (l *Location) Empty() bool { return l == nil || l.mean == nil }

// Statistics returns the means and standard deviations, [S,S]; nil: maps stay
// as they are.
func (l *Location) Statistics() (mean, std []float32) { return l.mean, l.std }

// standardise turns a map into its distance from the good parts' mean, in their
// standard deviations.
func (l *Location) standardise(anomalyMap []float32) {
	for i, mean := range l.mean {
		anomalyMap[i] = (anomalyMap[i] - mean) / l.std[i]
	}
}

func (p Parameters) checkLocation(location *Location) error {
	if location.Empty() {
		return nil
	}
	if want := p.anomalyMapLen(); len(location.mean) != want {
		return fmt.Errorf("location statistics: expected %d means and as many standard deviations, found %d", want, len(location.mean))
	}
	return nil
}

// LocationLearner learns a [Location] from the maps of good parts.
type LocationLearner struct {
	count         int
	sum, ofSquare []float64
}

// Add takes the map of one more good part.
func (l *LocationLearner) Add(anomalyMap []float32) {
	if l.sum == nil {
		l.sum, l.ofSquare = make([]float64, len(anomalyMap)), make([]float64, len(anomalyMap))
	}
	l.count++
	for i, value := range anomalyMap {
		l.sum[i] += float64(value)
		l.ofSquare[i] += float64(value) * float64(value)
	}
}

// pooledShare of a location's variance is that of the whole map: the variance of
// one place, from some dozen parts, is a rough figure, and where it happens to
// be small it would make a defect of nothing.
const pooledShare = 0.25

// Learn returns what was learned; it needs two parts, and maps that differ.
func (l *LocationLearner) Learn() (*Location, error) {
	if l.count < 2 {
		return nil, fmt.Errorf("location statistics: expected maps of at least 2 good parts, found %d", l.count)
	}
	n := float64(l.count)
	variance := make([]float64, len(l.sum))
	pooled := 0.0
	for i, sum := range l.sum {
		variance[i] = max(0, (l.ofSquare[i]-sum*sum/n)/(n-1))
		pooled += variance[i] / float64(len(l.sum))
	}
	if pooled == 0 {
		return nil, errors.New("location statistics: the maps of all good parts are the same; are they pictures of one part?")
	}
	mean, std := make([]float32, len(l.sum)), make([]float32, len(l.sum))
	for i, sum := range l.sum {
		mean[i] = float32(sum / n)
		std[i] = float32(math.Sqrt((1-pooledShare)*variance[i] + pooledShare*pooled))
	}
	return NewLocation(mean, std)
}
