package pipeline

import (
	"crypto/sha256"
	"math/rand/v2"
)

// noiseScheme names how noise is drawn. It changes with every change of the
// drawing, because scores change with the noise.
const noiseScheme = "gladd.noise/v1"

// noiseSource returns the source of the noise of one picture under one model:
// the same picture under the same model always gets the same noise, hence the
// same score. The seed is SHA-256 over the scheme's name, the model digest and
// the prepared picture, joined without separators (the first two have a fixed
// length). The noise n is drawn from the source first, the posterior's noise,
// where there is one, next; both in the order of the tensor's elements.
func noiseSource(modelDigest string, rgb []byte) *rand.Rand {
	hash := sha256.New()
	hash.Write([]byte(noiseScheme))
	hash.Write([]byte(modelDigest))
	hash.Write(rgb)
	return rand.New(rand.NewChaCha8([32]byte(hash.Sum(nil))))
}

func fillNormal(noise []float32, source *rand.Rand) {
	for i := range noise {
		noise[i] = float32(source.NormFloat64())
	}
}
