package pipeline

import "math"

// fuse is GLAD's spatial-adaptive feature fusion. Where the two clean latents
// differ most the generated one is trusted, elsewhere the part's own:
// x0 = m x0Gen + (1-m) x0Test with m = sigmoid(gateMap). All latents are
// [C,h,w], gateMap is [h,w]; x0 may be x0Gen.
func fuse(x0, x0Gen, x0Test, gateMap []float32) {
	plane := len(gateMap)
	for i, value := range gateMap {
		m := float32(1 / (1 + math.Exp(-float64(value))))
		for j := i; j < len(x0); j += plane {
			x0[j] = m*x0Gen[j] + (1-m)*x0Test[j]
		}
	}
}
