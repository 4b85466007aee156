package virtualline

import (
	"image"

	"golang.org/x/image/font/basicfont"
)

// shape is an area in the part's coordinates.
type shape interface {
	// coverage of a pixel of a given side around a point, 0 to one.
	coverage(x, y, pixel int64) int64
	// bounds is a circle around the shape.
	bounds() (x, y, radius int64)
}

// outline is a shape that knows the distance of a point from its edge,
// negative inside.
type outline interface {
	shape
	distance(x, y int64) int64
}

// covered is the coverage of a pixel at a distance from an edge.
func covered(distance, pixel int64) int64 {
	return clamp(one/2-distance<<16/pixel, 0, one)
}

// circle is a disc.
type circle struct{ x, y, radius int64 }

func (c circle) distance(x, y int64) int64        { return length(x-c.x, y-c.y) - c.radius }
func (c circle) coverage(x, y, pixel int64) int64 { return covered(c.distance(x, y), pixel) }
func (c circle) bounds() (x, y, radius int64)     { return c.x, c.y, c.radius }

// box is a rectangle with round corners; width and height are halves.
type box struct{ x, y, width, height, corner int64 }

func (b box) distance(x, y int64) int64 {
	dx, dy := abs(x-b.x)-b.width+b.corner, abs(y-b.y)-b.height+b.corner
	if dx > 0 && dy > 0 {
		return length(dx, dy) - b.corner
	}
	return max(dx, dy) - b.corner
}
func (b box) coverage(x, y, pixel int64) int64 { return covered(b.distance(x, y), pixel) }
func (b box) bounds() (x, y, radius int64)     { return b.x, b.y, length(b.width, b.height) }

// ellipse is a turned ellipse. Its distance is exact only on its edge.
type ellipse struct{ x, y, a, b, angle int64 }

// within maps the ellipse to a disc of radius one.
func (e ellipse) within(x, y int64) (u, v int64) {
	u, v = rotate(x-e.x, y-e.y, sine(-e.angle), cosine(-e.angle))
	return u << 16 / e.a, v << 16 / e.b
}
func (e ellipse) distance(x, y int64) int64 {
	return mul(length(e.within(x, y))-one, min(e.a, e.b))
}
func (e ellipse) coverage(x, y, pixel int64) int64 { return covered(e.distance(x, y), pixel) }
func (e ellipse) bounds() (x, y, radius int64)     { return e.x, e.y, max(e.a, e.b) }

// blob is a disc with an uneven edge.
type blob struct {
	circle
	uneven int64 // at most, as a share of the radius
	seed   uint32
}

func (b blob) distance(x, y int64) int64 {
	return b.circle.distance(x, y) + mul(2*noise(b.seed, x, y, 11)+noise(b.seed+1, x, y, 9), mul(b.radius, b.uneven))
}
func (b blob) coverage(x, y, pixel int64) int64 { return covered(b.distance(x, y), pixel) }
func (b blob) bounds() (x, y, radius int64)     { return b.x, b.y, b.radius + 2*mul(b.radius, b.uneven) }

// point is a place, and there the half width of a [stroke].
type point struct{ x, y, width int64 }

// stroke is a line through points.
type stroke []point

func (s stroke) distance(x, y int64) int64 {
	nearest := int64(1) << 40
	for i := range len(s) - 1 {
		from, to := s[i], s[i+1]
		dx, dy := to.x-from.x, to.y-from.y
		along := int64(0)
		if square := dx*dx + dy*dy; square > 0 {
			along = clamp(((x-from.x)*dx+(y-from.y)*dy)<<16/square, 0, one)
		}
		ax, ay, width := x-from.x-mul(dx, along), y-from.y-mul(dy, along), mix(from.width, to.width, along)
		if max(abs(ax), abs(ay))-width < nearest { // or the root is not needed
			nearest = min(nearest, length(ax, ay)-width)
		}
	}
	return nearest
}
func (s stroke) coverage(x, y, pixel int64) int64 { return covered(s.distance(x, y), pixel) }
func (s stroke) bounds() (x, y, radius int64) {
	middle := s[len(s)/2]
	for _, p := range s {
		radius = max(radius, length(p.x-middle.x, p.y-middle.y)+p.width)
	}
	return middle.x, middle.y, radius
}

// without is an outline with others taken away.
type without struct {
	outline
	taken []outline
}

func (w without) distance(x, y int64) int64 {
	distance := w.outline.distance(x, y)
	for _, other := range w.taken {
		distance = max(distance, -other.distance(x, y))
	}
	return distance
}
func (w without) coverage(x, y, pixel int64) int64 { return covered(w.distance(x, y), pixel) }

// within is the part of a shape that lies in an outline.
type within struct {
	shape
	inside outline
}

func (w within) coverage(x, y, pixel int64) int64 {
	return min(w.shape.coverage(x, y, pixel), w.inside.coverage(x, y, pixel))
}

// text is a line of letters.
type text struct {
	x, y   int64 // of the middle
	dot    int64 // side of a letter's dot; a letter is 7 wide and 13 high
	across int64 // dots across
	dots   []byte
}

const dotsHigh = 13

// newText sets letters of ASCII in the fixed font of x/image.
func newText(x, y, dot int64, letters string) text {
	face := basicfont.Face7x13
	mask := face.Mask.(*image.Alpha)
	t := text{x: x, y: y, dot: dot, across: int64(len(letters)) * 7}
	t.dots = make([]byte, t.across*dotsHigh)
	for i := range len(letters) {
		glyph := (int(letters[i]) - int(face.Ranges[0].Low) + face.Ranges[0].Offset) * dotsHigh
		for row := range dotsHigh {
			copy(t.dots[int64(row)*t.across+int64(i)*7:][:face.Width], mask.Pix[(glyph+row)*mask.Stride:])
		}
	}
	return t
}

func (t text) at(column, row int64) int64 {
	if column < 0 || row < 0 || column >= t.across || row >= dotsHigh {
		return 0
	}
	return int64(t.dots[row*t.across+column]) * 257
}

func (t text) coverage(x, y, _ int64) int64 {
	// In dots, from the middle of the first one.
	u := (x-t.x)<<16/t.dot + t.across*one/2 - one/2
	v := (y-t.y)<<16/t.dot + dotsHigh*one/2 - one/2
	column, row := u>>16, v>>16
	u, v = u&(one-1), v&(one-1)
	ink := mix(mix(t.at(column, row), t.at(column+1, row), u), mix(t.at(column, row+1), t.at(column+1, row+1), u), v)
	return clamp(2*ink-one/2, 0, one) // sharper than the interpolation
}
func (t text) bounds() (x, y, radius int64) {
	return t.x, t.y, length(t.across*t.dot/2, dotsHigh*t.dot/2)
}

// smeared is a shape dragged along a way, within an area.
type smeared struct {
	shape
	dx, dy int64 // the whole way
	area   outline
}

func (s smeared) coverage(x, y, pixel int64) int64 {
	if s.area.distance(x, y) > 0 {
		return s.shape.coverage(x, y, pixel)
	}
	const steps = 8
	var sum int64
	for step := range int64(steps) {
		sum += s.shape.coverage(x-s.dx*step/steps, y-s.dy*step/steps, pixel)
	}
	return sum * 3 / 2 / steps
}
func (s smeared) bounds() (x, y, radius int64) {
	x, y, radius = s.shape.bounds()
	return x, y, radius + length(s.dx, s.dy)
}
