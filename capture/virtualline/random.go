package virtualline

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"math/rand/v2"
)

// stream is a source of random numbers with a name: what one stream gives does
// not depend on how much was taken from another. ChaCha8 is specified to the
// bit (c2sp.org/chacha8rand).
type stream struct{ source *rand.ChaCha8 }

func newStream(seed uint64, names ...any) *stream {
	return &stream{rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "gladd.virtualline/v1 %d %v", seed, names)))}
}

// between draws a number from low to high, both included.
func (s *stream) between(low, high int64) int64 {
	// The multiplication's upper half; its bias is below 2^-40 for what is drawn.
	upper, _ := bits.Mul64(s.source.Uint64(), uint64(high-low+1))
	return low + int64(upper)
}

// about draws a number around 0, at most spread away, values near 0 more
// often.
func (s *stream) about(spread int64) int64 {
	return (s.between(-spread, spread) + s.between(-spread, spread)) / 2
}

// choose draws one of several.
func choose[T any](s *stream, from ...T) T { return from[s.between(0, int64(len(from))-1)] }

// sign draws -1 or 1.
func (s *stream) sign() int64 { return 2*s.between(0, 1) - 1 }

// seed draws a seed of a texture.
func (s *stream) seed() uint32 { return uint32(s.source.Uint64()) }

// hash mixes a lattice point to 32 random bits (the finalizer of MurmurHash3,
// by Austin Appleby, which is in the public domain, over a linear combination).
func hash(seed uint32, x, y int64) uint32 {
	h := seed + uint32(x)*0x9e3779b1 + uint32(y)*0x85ebca77
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}

// noise is smooth value noise from -one/2 to one/2; its lattice has cells of
// 1<<cell units.
func noise(seed uint32, x, y int64, cell uint) int64 {
	left, top := x>>cell, y>>cell
	u, v := ease(x-left<<cell, cell), ease(y-top<<cell, cell)
	corner := func(dx, dy int64) int64 { return int64(hash(seed, left+dx, top+dy)>>16) - one/2 }
	return mix(mix(corner(0, 0), corner(1, 0), u), mix(corner(0, 1), corner(1, 1), u), v)
}

// ease is the smooth step 3t^2-2t^3 over a cell.
func ease(offset int64, cell uint) int64 {
	t := offset << 16 >> cell
	return t * t >> 16 * (3*one - 2*t) >> 16
}

// fractal sums noise of halving cells and halving heights; it stays within
// -one to one.
func fractal(seed uint32, x, y int64, cell uint, octaves int) int64 {
	var sum int64
	for octave := range octaves {
		sum += noise(seed+uint32(octave)*0x632be5ab, x, y, cell-uint(octave)) >> octave
	}
	return sum
}
