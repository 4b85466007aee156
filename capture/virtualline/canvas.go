package virtualline

// color is red, green and blue as shares.
type color [3]int64

// rgb8 is a color of three bytes.
func rgb8(r, g, b int64) color { return color{r * 257, g * 257, b * 257} }

func (c color) mix(other color, share int64) color {
	for i := range c {
		c[i] = mix(c[i], other[i], share)
	}
	return c
}

// lit is the color under more or less light; none of it changes by more than
// its share.
func (c color) lit(by int64) color {
	for i := range c {
		c[i] = clamp(c[i]+mul(c[i], by), 0, one-1)
	}
	return c
}

// canvas is a picture being drawn. What is drawn is given in coordinates of the
// part, which lies in the picture as its pose says.
type canvas struct {
	size     int64 // pixels a side
	pixel    int64 // units a pixel
	pixels   []color
	marked   []int64 // coverage by the defect
	sin, cos int64   // of the part's rotation
	dx, dy   int64   // the part's place
}

func newCanvas(size int) *canvas {
	pixels := size * size
	return &canvas{size: int64(size), pixel: side / int64(size), pixels: make([]color, pixels), marked: make([]int64, pixels), cos: one}
}

// turn lays the part into the picture.
func (c *canvas) lay(angle, dx, dy int64) {
	c.sin, c.cos, c.dx, c.dy = sine(angle), cosine(angle), dx, dy
}

// place is a pixel's middle in the picture.
func (c *canvas) place(column, row int64) (x, y int64) {
	return (2*column+1)*side/(2*c.size) - side/2, (2*row+1)*side/(2*c.size) - side/2
}

// each calls a function with every pixel that a shape may touch: its index and
// its middle in the part's coordinates.
func (c *canvas) each(s shape, visit func(i int, x, y int64)) {
	x, y, radius := s.bounds()
	x, y = rotate(x, y, c.sin, c.cos)
	x, y = x+c.dx, y+c.dy
	radius += 2 * c.pixel
	first := func(from int64) int64 { return clamp((from+side/2)*c.size/side, 0, c.size) }
	left, right := first(x-radius), first(x+radius+c.pixel)
	top, bottom := first(y-radius), first(y+radius+c.pixel)
	for row := top; row < bottom; row++ {
		for column := left; column < right; column++ {
			px, py := c.place(column, row)
			u, v := rotate(px-c.dx, py-c.dy, -c.sin, c.cos)
			visit(int(row*c.size+column), u, v)
		}
	}
}

// fill draws a shape. Paint gives the color at a place of what lies under it.
func (c *canvas) fill(s shape, strength int64, paint func(x, y int64, under color) color) {
	c.each(s, func(i int, x, y int64) {
		if share := mul(s.coverage(x, y, c.pixel), strength); share > 0 {
			c.pixels[i] = c.pixels[i].mix(paint(x, y, c.pixels[i]), share)
		}
	})
}

// mark notes that a defect lies within a shape.
func (c *canvas) mark(s shape) {
	c.each(s, func(i int, x, y int64) {
		c.marked[i] = max(c.marked[i], s.coverage(x, y, c.pixel))
	})
}

// plain is a paint of one color.
func plain(with color) func(x, y int64, under color) color {
	return func(int64, int64, color) color { return with }
}

// shade draws a body's shadow on what lies under it: an outline moved away and
// soft over a length.
func (c *canvas) shade(body outline, away, soft, strength int64) {
	x, y, radius := body.bounds()
	c.each(circle{x + away, y + away, radius + soft}, func(i int, x, y int64) {
		dark := clamp(one-(body.distance(x-away, y-away)+soft)<<16/(2*soft), 0, one)
		c.pixels[i] = c.pixels[i].lit(-mul(dark, strength))
	})
}

// bevel lights the rim of a body from the upper left: within a width of the
// edge, bright where the edge faces the light. A sunken one, such as a hole's
// chamfer, is lit on the other side.
func (c *canvas) bevel(body outline, width, strength int64) {
	step := max(width/2, 64)
	c.each(body, func(i int, x, y int64) {
		distance := body.distance(x, y)
		if distance > 0 || distance < -width {
			return
		}
		// The slope of the distance along the light, -one to one.
		slope := (body.distance(x+step, y+step) - body.distance(x-step, y-step)) << 16 / (3 * step)
		fade := one - -distance<<16/width
		c.pixels[i] = c.pixels[i].lit(-mul(mul(slope, fade), strength))
	})
}
