package virtualline

// hole goes through the part, but for what it is blocked with, as a share.
type hole struct {
	circle
	blocked int64
}

// part is one part while it is drawn. A defect may change it before.
type part struct {
	*canvas
	body  outline // what chips are taken from
	chips []outline
	holes []hole  // drilled, or moulded
	print []shape // markings
	ink   color
	rim   int64 // width of the bevel around body and holes
	hue   color // of the body, for what is drawn on it
	draw  func()
}

// room is a place on the body for something of a radius, away from edge and
// holes.
func (p *part) room(random *stream, radius int64) (x, y int64) {
	limit := side/2 - radius
	for range 1000 {
		x, y = random.between(-limit, limit), random.between(-limit, limit)
		free := p.body.distance(x, y) < -radius-p.rim
		for _, hole := range p.holes {
			free = free && hole.distance(x, y) > radius+p.rim
		}
		if free {
			return x, y
		}
	}
	return x, y
}

// solid is the body without its chips.
func (p *part) solid() outline {
	if p.chips == nil {
		return p.body
	}
	return without{p.body, p.chips}
}

// belt draws what the part lies on.
func (p *part) belt(random *stream, tone color) {
	seed, solid := random.seed(), p.solid()
	p.each(box{0, 0, side, side, 0}, func(i int, x, y int64) {
		if solid.distance(x, y) > -2*p.pixel { // elsewhere nobody sees it
			p.pixels[i] = tone.lit(fractal(seed, x, y, 12, 3)/6 + noise(seed+9, x*4, y, 9)/8)
		}
	})
}

func drilled(circles ...circle) []hole {
	var holes []hole
	for _, each := range circles {
		holes = append(holes, hole{circle: each})
	}
	return holes
}

// drill draws the holes: through them the belt is seen, in shadow.
func (p *part) drill(strength int64) {
	for _, hole := range p.holes {
		p.fill(circle{hole.x, hole.y, hole.radius + p.rim}, one, func(x, y int64, under color) color {
			return under.lit(one / 12) // the chamfer
		})
		p.bevel(circle{hole.x, hole.y, hole.radius + p.rim}, p.rim, -strength)
		p.fill(hole, one, func(x, y int64, _ color) color {
			depth := clamp((x-hole.x+y-hole.y)<<15/hole.radius, -one/2, one/2)
			return rgb8(30, 31, 34).mix(p.hue, hole.blocked).lit(depth / 2)
		})
	}
}

// printAll prints the markings.
func (p *part) printAll(random *stream) {
	seed := random.seed()
	fade := random.between(one*3/4, one)
	for _, each := range p.print {
		p.fill(each, fade, func(x, y int64, under color) color {
			return under.mix(p.ink, one*7/8+noise(seed, x, y, 9)/4)
		})
	}
}

// plate is a drilled, brushed metal plate with markings.
func plate(c *canvas, layout, texture *stream) *part {
	p := &part{canvas: c, rim: 420, ink: rgb8(28, 30, 36), hue: rgb8(158, 160, 163)}
	c.lay(layout.about(turn/120), layout.about(900), layout.about(900))
	p.body = box{0, 0, 27000, 19500, 2600}
	p.holes = drilled(circle{-22500, -15000, 2100}, circle{22500, -15000, 2100}, circle{-22500, 15000, 2100}, circle{22500, 15000, 2100},
		circle{-11500, 1800, 5600}, circle{13500, 8200, 1500}, circle{18000, 3600, 1500})
	p.print = []shape{
		newText(7500, -9800, 560, "GP-204"),
		newText(7800, -2600, 360, "24V 3A"),
		box{7500, -5900, 11500, 190, 0},
		stroke{{-19500, 12400, 200}, {-16000, 12400, 200}, {-17750, 9600, 200}, {-19500, 12400, 200}},
	}
	p.draw = func() {
		p.belt(texture, rgb8(44, 47, 52))
		p.shade(p.body, 900, 1300, one*5/8)
		grain, sheen := texture.seed(), texture.seed()
		band := texture.between(-9000, 9000)
		p.fill(p.solid(), one, func(x, y int64, _ color) color {
			brushed := noise(grain, x>>3, y*2, 8) + noise(grain+1, x>>4, y, 8) + noise(grain+2, x>>2, y*2, 8)/2
			glare := one - clamp(abs(x/2+y-band)*4, 0, one)
			return p.hue.lit(brushed/9 + glare/9 + noise(sheen, x, y, 14)/10)
		})
		p.bevel(p.solid(), p.rim, one/2)
		p.drill(one / 2)
		p.printAll(texture)
	}
	return p
}

// board is a detail of a printed circuit.
func board(c *canvas, layout, texture *stream) *part {
	p := &part{canvas: c, rim: 260, ink: rgb8(226, 229, 222), hue: rgb8(24, 92, 58)}
	c.lay(layout.about(turn/150), layout.about(700), layout.about(700))
	p.body = box{0, 0, 28500, 28500, 1200}
	p.holes = drilled(circle{-24500, -24500, 2000}, circle{24500, -24500, 2000}, circle{-24500, 24500, 2000}, circle{24500, 24500, 2000})
	pads := []circle{}
	for i := range int64(6) {
		pads = append(pads, circle{-14000 + i*3600, 23600, 1250})
	}
	for _, pad := range pads {
		p.holes = append(p.holes, drilled(circle{pad.x, pad.y, 560})...)
	}
	p.print = []shape{
		newText(-9500, -22800, 330, "GLD-7 REV C"), newText(16500, 6000, 290, "R12"), newText(16500, 16800, 290, "C4"),
		newText(-17500, 12800, 290, "U1"),
		stroke{{-16000, -12000, 130}, {6000, -12000, 130}, {6000, 9000, 130}, {-16000, 9000, 130}, {-16000, -12000, 130}},
	}
	var tracks []stroke
	for i := range int64(6) {
		tracks = append(tracks, stroke{{-14000 + i*3600, 23600, 330}, {-14000 + i*3600, 17800 - i*500, 330}, {-13000 + i*3200, 15500, 330}, {-13000 + i*3200, 10000, 330}})
	}
	for i := range int64(4) {
		tracks = append(tracks, stroke{{8000, -9000 + i*4200, 330}, {12500, -9000 + i*4200, 330}, {15500, -12500 + i*2600, 330}, {25500, -12500 + i*2600, 330}})
	}
	p.draw = func() {
		p.belt(texture, rgb8(52, 50, 48))
		p.shade(p.body, 600, 900, one/2)
		weave := texture.seed()
		p.fill(p.solid(), one, func(x, y int64, _ color) color {
			return p.hue.lit(noise(weave, x, y*4, 10)/12 + noise(weave+1, x*4, y, 10)/12 + noise(weave+2, x, y, 14)/9)
		})
		for _, track := range tracks {
			p.fill(track, one*3/4, plain(rgb8(60, 138, 84)))
		}
		p.bevel(p.solid(), p.rim, one/3)
		for _, pad := range pads {
			p.fill(pad, one, plain(rgb8(196, 168, 92)))
			p.bevel(pad, 500, one/4)
		}
		p.drill(one / 3)
		p.components(texture)
		p.printAll(texture)
	}
	return p
}

// components places a board's parts: each stands a little differently.
func (p *part) components(texture *stream) {
	solder := rgb8(186, 188, 192)
	// A package with eight legs a side.
	dx, dy := texture.about(160), texture.about(160)
	for i := range int64(8) {
		for _, end := range []int64{-1, 1} {
			leg := box{-5000 + dx + (i*2-7)*1150, -1500 + dy + end*8200, 380, 1300, 100}
			p.fill(leg, one, plain(solder))
			p.bevel(leg, 300, one/3)
		}
	}
	chip := box{-5000 + dx, -1500 + dy, 10000, 7200, 500}
	p.shade(chip, 400, 500, one/3)
	matt := texture.seed()
	p.fill(chip, one, func(x, y int64, _ color) color { return rgb8(38, 39, 42).lit(noise(matt, x, y, 9) / 5) })
	p.bevel(chip, 600, one/2)
	p.fill(circle{-12700 + dx, 4000 + dy, 700}, one/2, plain(rgb8(20, 20, 22)))
	p.fill(newText(-5000+dx, -1500+dy, 300, "GL8051"), one*5/8, plain(rgb8(150, 152, 156)))
	// A resistor and a capacitor.
	for i, tone := range []color{rgb8(30, 30, 33), rgb8(170, 128, 84)} {
		x, y := 16500+texture.about(200), int64(i)*10800+1800+texture.about(200)
		p.fill(box{x, y, 4600, 1900, 200}, one, plain(solder))
		p.fill(box{x, y, 2900, 1900, 0}, one, plain(tone))
		p.bevel(box{x, y, 4600, 1900, 200}, 450, one/3)
	}
}

// moulded is a moulded cap that may lie turned.
func moulded(c *canvas, layout, texture *stream) *part {
	p := &part{canvas: c, rim: 380, ink: rgb8(222, 228, 236), hue: rgb8(38, 84, 150)}
	c.lay(layout.between(0, turn-1), layout.about(900), layout.about(900))
	const radius = 25500
	p.body = circle{0, 0, radius}
	for i := range int64(3) {
		angle := i*turn/3 + turn/12
		p.holes = append(p.holes, drilled(circle{mul(14500, cosine(angle)), mul(14500, sine(angle)), 1500})...)
	}
	p.print = []shape{
		newText(0, -5200, 480, "OPEN"), newText(0, 5400, 340, "PP-5"),
		stroke{{-6500, 0, 260}, {6500, 0, 260}}, stroke{{4200, -1900, 260}, {6500, 0, 260}, {4200, 1900, 260}},
	}
	p.draw = func() {
		p.belt(texture, rgb8(176, 174, 168))
		p.shade(p.body, 1300, 1700, one/2)
		matt, flow := texture.seed(), texture.seed()
		p.fill(p.solid(), one, func(x, y int64, _ color) color {
			return p.hue.lit(noise(matt, x, y, 8)/14 + fractal(flow, x, y, 14, 2)/12)
		})
		for i := range int64(40) {
			sin, cos := sine(i*turn/40), cosine(i*turn/40)
			rib := stroke{{mul(radius-2600, cos), mul(radius-2600, sin), 420}, {mul(radius-700, cos), mul(radius-700, sin), 520}}
			p.fill(within{rib, p.solid()}, one, func(x, y int64, under color) color { return under.lit(-one / 5) })
			p.bevel(rib, 400, one/3)
		}
		p.bevel(p.solid(), 700, one/2)
		p.bevel(circle{0, 0, 20500}, 900, -one/3)
		p.bevel(circle{0, 0, 10800}, 500, one/4)
		p.fill(circle{0, 18000, 700}, one/2, plain(rgb8(24, 56, 104))) // where it was cut from the mould
		p.drill(one / 3)
		p.printAll(texture)
	}
	return p
}

// surface is rolled or cast metal, stone or leather: each part differs
// everywhere from every other.
func surface(c *canvas, layout, texture *stream) *part {
	tone := choose(layout, rgb8(128, 128, 130), rgb8(142, 134, 122), rgb8(108, 112, 118), rgb8(150, 148, 144))
	p := &part{canvas: c, rim: 0, hue: tone.lit(layout.about(one / 8))}
	c.lay(layout.about(turn/32), 0, 0)
	p.body = box{0, 0, side, side, 0}
	rolled := layout.between(0, one)
	p.draw = func() {
		lines, grain, cloud := texture.seed(), texture.seed(), texture.seed()
		p.fill(p.body, one, func(x, y int64, _ color) color {
			along := noise(lines, x>>4, y*2, 9) + noise(lines+1, x>>5, y, 9)
			cast := fractal(grain, x, y, 11, 3)
			return p.hue.lit(mix(cast/4, along/6, rolled) + fractal(cloud, x, y, 14, 2)/8)
		})
	}
	return p
}
