package pipeline

import (
	"errors"
	"fmt"
	"math"
)

// Location holds how the anomaly maps of good parts run at each place: what is
// ordinary at an edge or a print need not be so on a plain face. It serves
// parts that lie still. GLAD itself has no such thing.
type Location struct {
	// Mean and Std [S,S]; every Std is above 0. Both empty: the map stays as it
	// is.
	Mean, Std []float32
}

// standardise turns a map into its distance from the good parts' mean, in their
// standard deviations.
func (l *Location) standardise(anomalyMap []float32) {
	for i, mean := range l.Mean {
		anomalyMap[i] = (anomalyMap[i] - mean) / l.Std[i]
	}
}

func (p Parameters) checkLocation(location *Location) error {
	if location == nil || len(location.Mean) == 0 && len(location.Std) == 0 {
		return nil
	}
	if want := p.anomalyMapLen(); len(location.Mean) != want || len(location.Std) != want {
		return fmt.Errorf("location statistics: expected %d means and as many standard deviations, found %d and %d", want, len(location.Mean), len(location.Std))
	}
	if err := location.Check(); err != nil {
		return fmt.Errorf("location statistics: %w", err)
	}
	return nil
}

// Check finds values that no map can be standardised with.
func (l *Location) Check() error {
	for i, std := range l.Std {
		if mean := float64(l.Mean[i]); math.IsNaN(mean) || math.IsInf(mean, 0) {
			return fmt.Errorf("mean %d: expected a finite number, found %v", i, mean)
		}
		if !(std > 0) || math.IsInf(float64(std), 0) {
			return fmt.Errorf("standard deviation %d: expected a finite number above 0, found %v", i, std)
		}
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
	location := &Location{Mean: make([]float32, len(l.sum)), Std: make([]float32, len(l.sum))}
	for i, sum := range l.sum {
		location.Mean[i] = float32(sum / n)
		location.Std[i] = float32(math.Sqrt((1-pooledShare)*variance[i] + pooledShare*pooled))
	}
	return location, location.Check()
}
