package virtualline

import "math/bits"

// Everything is drawn with 64-bit integers. Floating point would not do: Go
// allows a compiler to fuse a multiplication and an addition where the
// processor can, which rounds differently, and the functions of package math
// differ between processors in their last bits.
//
// Lengths are in units of which the picture's side has [side]; the origin is
// the picture's middle, y grows downwards. Shares (coverage, strength, colors)
// go from 0 to [one]. Angles are in units of which a turn has [turn].
const (
	side = 1 << 16
	one  = 1 << 16
	turn = 1 << 16
)

// mul multiplies a number with a share.
func mul(a, share int64) int64 { return a * share >> 16 }

// mix goes from a to b by a share.
func mix(a, b, share int64) int64 { return a + mul(b-a, share) }

func clamp(a, low, high int64) int64 { return min(max(a, low), high) }

func abs(a int64) int64 { return max(a, -a) }

// rootsAbove are the roots of small numbers, rounded up.
var rootsAbove = func() (roots [257]int64) {
	for i, above := 0, int64(0); i < len(roots); i++ {
		for above*above < int64(i) {
			above++
		}
		roots[i] = above
	}
	return roots
}()

// root is the whole part of a square root.
func root(a int64) int64 {
	if a <= 0 {
		return 0
	}
	// From a guess above, of the first bits, Newton's method ends at the whole
	// part.
	half := max(bits.Len64(uint64(a))-7, 0) / 2
	x := rootsAbove[a>>(2*half)+1] << half
	for {
		next := (x + a/x) >> 1
		if next >= x {
			return x
		}
		x = next
	}
}

func length(x, y int64) int64 { return root(x*x + y*y) }

// sine of an angle, as a share with a sign; its error is below 3e-5.
func sine(angle int64) int64 {
	angle &= turn - 1
	sign := int64(1)
	if angle >= turn/2 {
		angle, sign = angle-turn/2, -1
	}
	if angle > turn/4 {
		angle = turn/2 - angle
	}
	// Taylor's series of the ninth order, with 30 bits behind the point.
	const halfPi = 1686629713 // pi/2 * 2^30
	x := angle * halfPi >> 14
	square := x * x >> 30
	sum := int64(1) << 30
	for _, divisor := range []int64{72, 42, 20, 6} {
		sum = 1<<30 - (square*sum>>30)/divisor
	}
	return sign * (x * sum >> 44)
}

func cosine(angle int64) int64 { return sine(angle + turn/4) }

// rotate turns a point around the origin.
func rotate(x, y, sin, cos int64) (int64, int64) {
	return mul(x, cos) - mul(y, sin), mul(x, sin) + mul(y, cos)
}
