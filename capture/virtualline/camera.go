package virtualline

// expose takes the picture of what was drawn: light that falls off, a lens that
// is not quite sharp, a sensor with noise. The result is [size][size][3].
func (c *canvas) expose(random *stream) []byte {
	exposure := random.about(one / 20)
	slopeX, slopeY := random.about(one/5), random.about(one/5)
	vignette := random.between(one/8, one/4)
	var balance color
	for i := range balance {
		balance[i] = random.about(one / 60)
	}
	for row := range c.size {
		for column := range c.size {
			x, y := c.place(column, row)
			light := exposure + mul(x, slopeX) + mul(y, slopeY) - mul((x*x+y*y)>>16, vignette)
			pixel := &c.pixels[row*c.size+column]
			for i := range pixel {
				pixel[i] += mul(pixel[i], light+balance[i])
			}
		}
	}
	c.blur(random.between(one/8, one/4))

	seed := random.seed()
	picture := make([]byte, 0, 3*len(c.pixels))
	for i, pixel := range c.pixels {
		for channel, value := range pixel {
			// The sum of four bytes is close to a normal distribution, with a
			// standard deviation of 147.8.
			bits := hash(seed, int64(i), int64(channel))
			sum := int64(bits&0xff+bits>>8&0xff+bits>>16&0xff+bits>>24) - 510
			// Read noise, and shot noise that grows with the light: 1.1 to 2.2 of
			// 255.
			value = clamp(value, 0, one-1)
			value += sum * (8 + value>>13) / 4
			picture = append(picture, byte(clamp((value*255+one/2)>>16, 0, 255)))
		}
	}
	return picture
}

// blur mixes every pixel with its neighbours: the weights along a line are
// share/2, one-share, share/2.
func (c *canvas) blur(share int64) {
	line := make([]color, c.size)
	along := func(start, step int64) {
		for i := range c.size {
			line[i] = c.pixels[start+i*step]
		}
		for i := range c.size {
			before, after := line[max(i-1, 0)], line[min(i+1, c.size-1)]
			for channel := range before {
				c.pixels[start+i*step][channel] = mix(line[i][channel], (before[channel]+after[channel])/2, share)
			}
		}
	}
	for i := range c.size {
		along(i*c.size, 1)
	}
	for i := range c.size {
		along(i, c.size)
	}
}

// mask is where the defect is: 255 there, 0 elsewhere.
func (c *canvas) mask() []byte {
	mask := make([]byte, len(c.marked))
	for i, coverage := range c.marked {
		if coverage >= one/4 { // thin lines cover no pixel by half
			mask[i] = 255
		}
	}
	return mask
}
