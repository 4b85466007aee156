package mixed

import (
	"math"
	"testing"
)

// fromHalf is the value of a binary16.
func fromHalf(bits uint16) float64 {
	sign := 1.0
	if bits&0x8000 != 0 {
		sign = -1
	}
	exponent, fraction := int(bits>>10&0x1f), float64(bits&0x3ff)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

// Every binary16 comes back, what lies between two goes to the nearer one, and
// from the middle to the even one.
func TestToHalf(t *testing.T) {
	for bits := range 1 << 16 {
		half := uint16(bits)
		value := fromHalf(half)
		if math.IsNaN(value) {
			if found := toHalf(float32(value)); !math.IsNaN(fromHalf(found)) {
				t.Fatalf("NaN became %#x", found)
			}
			continue
		}
		if found := toHalf(float32(value)); found != half {
			t.Fatalf("%v: expected %#x, found %#x", value, half, found)
		}
		if half&0x7fff >= 0x7bff { // the largest, and infinity
			continue
		}
		next := fromHalf(half + 1)
		middle := (value + next) / 2
		even := half + half&1
		toward := func(to float64) float32 { return math.Nextafter32(float32(middle), float32(to)) }
		for _, test := range []struct {
			value float32
			want  uint16
		}{{float32(middle), even}, {toward(value), half}, {toward(next), half + 1}} {
			if found := toHalf(test.value); found != test.want {
				t.Fatalf("%v, between %v and %v: expected %#x, found %#x", test.value, value, next, test.want, found)
			}
		}
	}
	for _, test := range []struct {
		value float32
		want  uint16
	}{
		{65519.99, 0x7bff}, {65520, 0x7c00}, {-65520, 0xfc00}, {math.MaxFloat32, 0x7c00}, {math.SmallestNonzeroFloat32, 0},
		{0x1p-25, 0}, {math.Nextafter32(0x1p-25, 1), 1}, {float32(math.Copysign(0, -1)), 0x8000},
	} {
		if found := toHalf(test.value); found != test.want {
			t.Errorf("%v: expected %#x, found %#x", test.value, test.want, found)
		}
	}
}

func TestExtent(t *testing.T) {
	for name, test := range map[string]struct {
		values []float32
		want   extent
		fits   bool
	}{
		"none":           {nil, extent{}, true},
		"usual":          {[]float32{-3, 0, 2}, extent{largest: 3}, true},
		"the largest":    {[]float32{-65504}, extent{largest: 65504}, true},
		"a bit above":    {[]float32{65504.004}, extent{largest: 65504.004}, false},
		"infinite":       {[]float32{float32(math.Inf(-1)), float32(math.NaN()), 1}, extent{largest: 1, notFinite: 2}, true},
		"small":          {[]float32{6.2e-5, 6e-5, -3e-8, 2e-8, 1e-40}, extent{largest: 6.2e-5, subnormal: 2, flushed: 2}, true},
		"subnormal, all": {[]float32{0x1p-14, 0x1p-24, 0x1p-25}, extent{largest: 0x1p-14, subnormal: 1, flushed: 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var found extent
			for _, value := range test.values {
				found.add(value)
			}
			if found != test.want || found.fits() != test.fits {
				t.Errorf("expected %+v, fits %t, found %+v, %t", test.want, test.fits, found, found.fits())
			}
		})
	}
}
