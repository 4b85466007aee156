package engines

import (
	"fmt"
	"math"
)

// NotFiniteError says that a network returned a value that is not a finite
// number to another network, where the caller cannot see it.
type NotFiniteError struct {
	Graph  Graph
	Tensor string
	Index  int // of the first such value
	Value  float32
}

func (e *NotFiniteError) Error() string {
	return fmt.Sprintf("%s: output %q: expected finite values, found %v at index %d", e.Graph.Path, e.Tensor, e.Value, e.Index)
}

// NotFinite returns the first such value; package pipeline knows the error by
// this method.
func (e *NotFiniteError) NotFinite() (index int, value float32) { return e.Index, e.Value }

// CheckFinite returns a [NotFiniteError] unless all values of a graph's output
// are finite.
func CheckFinite(graph Graph, tensor string, values []float32) error {
	const exponent = 0x7f800000 // all of its bits are set in NaN and infinity
	for i, value := range values {
		if math.Float32bits(value)&exponent == exponent {
			return &NotFiniteError{Graph: graph, Tensor: tensor, Index: i, Value: value}
		}
	}
	return nil
}
