package virtualline

// Defect is a kind of defect.
type Defect string

// The kinds of defect.
const (
	Scratch      Defect = "scratch"
	Dent         Defect = "dent"
	Stain        Defect = "stain"
	Crack        Defect = "crack"
	MissingHole  Defect = "missing_hole"
	WrongHole    Defect = "wrong_hole" // too many, off its place, or of another size
	Chip         Defect = "chip"       // out of the edge
	SmearedPrint Defect = "smeared_print"
	ForeignBody  Defect = "foreign_body" // a crumb or a fibre
)

// Severity says how well a defect can be seen.
type Severity string

// The severities.
const (
	Obvious Severity = "obvious"
	Plain   Severity = "plain"
	Faint   Severity = "faint" // barely visible
)

// Severities are all that there are.
var Severities = []Severity{Obvious, Plain, Faint}

// degree is a severity in numbers.
type degree struct {
	size     int64 // as a share of the largest
	strength int64
}

func (s Severity) degree() degree {
	switch s {
	case Obvious:
		return degree{one, one}
	case Plain:
		return degree{one * 5 / 8, one * 9 / 16}
	}
	return degree{one * 3 / 8, one / 4}
}

// afflict gives the part a defect. What changes the part itself is changed at
// once; what lies on it is drawn by the function returned, after the part. The
// stream serves nothing else, so that the part without the defect is its twin.
func (p *part) afflict(defect Defect, severity Severity, random *stream) (draw func()) {
	d := severity.degree()
	switch defect {
	case Scratch:
		return p.scratch(d, random)
	case Dent:
		return p.dent(d, random)
	case Stain:
		return p.stain(d, random)
	case Crack:
		return p.crack(d, random)
	case MissingHole:
		p.missingHole(severity, random)
	case WrongHole:
		p.wrongHole(severity, random)
	case Chip:
		p.chip(d, random)
	case SmearedPrint:
		p.smear(d, random)
	case ForeignBody:
		return p.foreignBody(d, random)
	}
	return func() {}
}

// wander is a stroke that walks from a place and bends at random; it grows
// thinner towards its ends.
func wander(random *stream, x, y, step, bend, width int64, points int) stroke {
	angle := random.between(0, turn-1)
	line := stroke{}
	for i := range points {
		taper := one - abs(int64(2*i+1-points))*one/int64(points)
		line = append(line, point{x, y, width/3 + mul(width*2/3, taper)})
		x, y = x+mul(step, cosine(angle)), y+mul(step, sine(angle))
		angle += random.about(bend)
	}
	return line
}

// centre moves a stroke's middle to a place.
func (s stroke) centre(x, y int64) {
	dx, dy := x-s[len(s)/2].x, y-s[len(s)/2].y
	for i := range s {
		s[i].x, s[i].y = s[i].x+dx, s[i].y+dy
	}
}

func (p *part) scratch(d degree, random *stream) func() {
	size := mul(14000, d.size)
	x, y := p.room(random, 2500)
	line := wander(random, x, y, size/8, turn/40, 150+mul(210, d.size), 9)
	line.centre(x, y)
	bright := random.between(0, 2) > 0
	return func() {
		shape := within{line, p.solid()}
		p.fill(shape, d.strength, func(_, _ int64, under color) color {
			if bright {
				return under.lit(one * 5 / 8)
			}
			return under.lit(-one * 5 / 8)
		})
		p.mark(shape)
	}
}

func (p *part) dent(d degree, random *stream) func() {
	radius := random.between(2600, 3400)/3 + mul(random.between(2600, 3400), d.size)*2/3
	x, y := p.room(random, radius)
	shape := ellipse{x, y, radius, mul(radius, random.between(one*5/8, one)), random.between(0, turn-1)}
	return func() {
		p.each(shape, func(i int, x, y int64) {
			u, v := shape.within(x, y)
			inside := one - (u*u+v*v)>>16
			if inside <= 0 {
				return
			}
			// A hollow is dark where it falls away from the light, and bright
			// behind.
			u, v = rotate(u, v, sine(shape.angle), cosine(shape.angle))
			p.pixels[i] = p.pixels[i].lit(mul(mul(2*(u+v), min(2*inside, one)), d.strength) * 2 / 3)
		})
		p.mark(shape)
	}
}

func (p *part) stain(d degree, random *stream) func() {
	radius := random.between(3000, 4200)/3 + mul(random.between(3000, 4200), d.size)*2/3
	x, y := p.room(random, radius)
	shape := blob{circle{x, y, radius}, one / 3, random.seed()}
	tint := choose(random, rgb8(74, 48, 26), rgb8(30, 30, 34), rgb8(110, 92, 40))
	return func() {
		seen := within{shape, p.solid()}
		p.fill(seen, mul(d.strength, one*3/4), func(x, y int64, under color) color {
			depth := clamp(-shape.distance(x, y)*3<<16/radius, 0, one)
			return under.mix(tint, one*5/8+depth*3/8)
		})
		p.mark(seen)
	}
}

func (p *part) crack(d degree, random *stream) func() {
	x, y := p.room(random, 2000)
	width := 130 + mul(130, d.size)
	step := mul(1600, d.size)
	lines := []stroke{wander(random, x, y, step, turn/6, width, 10)}
	for range 2 {
		from := lines[0][random.between(2, 7)]
		lines = append(lines, wander(random, from.x, from.y, step*2/3, turn/6, width*3/4, 5))
	}
	return func() {
		for _, line := range lines {
			shape := within{line, p.solid()}
			p.fill(shape, mul(d.strength, one*7/8), func(_, _ int64, under color) color { return under.lit(-one * 3 / 4) })
			p.mark(shape)
		}
	}
}

// missingHole leaves a hole out, the largest where it shall be obvious; where
// it shall be faint, the smallest is blocked in part.
func (p *part) missingHole(severity Severity, random *stream) {
	largest, smallest := 0, 0
	for i, hole := range p.holes {
		if hole.radius > p.holes[largest].radius {
			largest = i
		}
		if hole.radius < p.holes[smallest].radius {
			smallest = i
		}
	}
	i := int(random.between(0, int64(len(p.holes))-1))
	switch severity {
	case Obvious:
		i = largest
	case Faint:
		p.markHole(p.holes[smallest])
		p.holes[smallest].blocked = one / 4
		return
	}
	p.markHole(p.holes[i])
	p.holes = append(p.holes[:i:i], p.holes[i+1:]...)
}

// wrongHole drills one too many, or one off its place, or of another size.
func (p *part) wrongHole(severity Severity, random *stream) {
	i := int(random.between(0, int64(len(p.holes))-1))
	hole := &p.holes[i]
	switch severity {
	case Obvious:
		radius := random.between(1700, 2300)
		x, y := p.room(random, radius)
		p.holes = append(p.holes, drilled(circle{x, y, radius})...)
		p.markHole(p.holes[len(p.holes)-1])
		return
	case Plain:
		p.markHole(*hole)
		angle := random.between(0, turn-1)
		away := max(hole.radius*5/8, 700)
		hole.x, hole.y = hole.x+mul(away, cosine(angle)), hole.y+mul(away, sine(angle))
	case Faint:
		hole.radius += max(hole.radius/5, 260)
	}
	p.markHole(*hole)
}

func (p *part) markHole(hole hole) {
	p.mark(circle{hole.x, hole.y, hole.radius + p.rim})
}

// chip takes a bite out of the edge.
func (p *part) chip(d degree, random *stream) {
	// From the middle outwards to the edge.
	angle := random.between(0, turn-1)
	sin, cos := sine(angle), cosine(angle)
	low, high := int64(0), int64(side)
	for high-low > 1 {
		middle := (low + high) / 2
		if p.body.distance(mul(middle, cos), mul(middle, sin)) < 0 {
			low = middle
		} else {
			high = middle
		}
	}
	radius := mul(random.between(3200, 3900), d.size)
	bite := blob{circle{mul(low+radius/4, cos), mul(low+radius/4, sin), radius}, one / 5, random.seed()}
	p.chips = append(p.chips, bite)
	grown := bite
	grown.radius += p.rim * 5 / 4
	p.mark(within{grown, p.body})
}

// smear drags the ink of a marking along.
func (p *part) smear(d degree, random *stream) {
	i := int(random.between(0, int64(len(p.print))-1))
	for try := 0; try < 20; try++ { // letters, where there are any
		if _, letters := p.print[i].(text); letters {
			break
		}
		i = int(random.between(0, int64(len(p.print))-1))
	}
	x, y, radius := p.print[i].bounds()
	reach := radius/4 + mul(radius*3/4, d.size)
	x += random.about(radius - reach)
	area := box{x, y, reach, radius, 0}
	angle := random.about(turn / 16)
	way := mul(random.between(2200, 2800), d.size) * random.sign()
	was := p.print[i]
	p.print[i] = smeared{was, mul(way, cosine(angle)), mul(way, sine(angle)), area}
	p.markChange(p.print[i], was)
}

// markChange marks where two shapes differ.
func (p *part) markChange(now, was shape) {
	p.each(now, func(i int, x, y int64) {
		if abs(now.coverage(x, y, p.pixel)-was.coverage(x, y, p.pixel)) > one/16 {
			p.marked[i] = one
		}
	})
}

func (p *part) foreignBody(d degree, random *stream) func() {
	x, y := p.room(random, 2000)
	tone := choose(random, rgb8(206, 200, 188), rgb8(40, 34, 30), rgb8(150, 44, 38), rgb8(46, 92, 52))
	tone = p.hue.mix(tone, one/4+mul(one*3/4, d.strength))
	var body outline // a fibre or a crumb
	if random.between(0, 1) == 0 {
		fibre := wander(random, x, y, mul(1900, d.size), turn/8, 170+mul(150, d.size), 8)
		fibre.centre(x, y)
		body = fibre
	} else {
		body = blob{circle{x, y, mul(random.between(2000, 2600), d.size)}, one / 3, random.seed()}
	}
	return func() {
		p.fill(body, one, plain(tone))
		p.bevel(body, 500, mul(one/2, d.strength))
		p.mark(body)
	}
}
