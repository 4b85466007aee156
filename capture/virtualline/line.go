// Package virtualline makes pictures of parts without end, good ones and ones
// with defects whose places are known: a camera where there is none, and sets
// to train and to measure with.
//
// A picture is a pure function of the line's options, the set, the part's
// number and its defect, the same on every machine: see fixed.go.
package virtualline

import (
	"fmt"
	"image"
	"slices"
	"strings"
)

// Kind is a kind of part.
type Kind string

// The kinds of part.
const (
	Plate   Kind = "plate"   // a drilled, brushed metal plate with markings
	Board   Kind = "board"   // a detail of a printed circuit
	Cap     Kind = "cap"     // a moulded cap that may lie turned
	Surface Kind = "surface" // rolled or cast, different everywhere from part to part
)

// Kinds are all that there are.
var Kinds = []Kind{Plate, Board, Cap, Surface}

var recipes = map[Kind]struct {
	begin   func(c *canvas, layout, texture *stream) *part
	defects []Defect
}{
	Plate:   {plate, []Defect{Scratch, Dent, Stain, Crack, MissingHole, WrongHole, Chip, SmearedPrint, ForeignBody}},
	Board:   {board, []Defect{Scratch, Stain, Crack, MissingHole, WrongHole, Chip, SmearedPrint, ForeignBody}},
	Cap:     {moulded, []Defect{Scratch, Dent, Stain, Crack, MissingHole, WrongHole, Chip, SmearedPrint, ForeignBody}},
	Surface: {surface, []Defect{Scratch, Dent, Stain, Crack, ForeignBody}},
}

// Defects are the kinds of defect that parts of a kind may have.
func (k Kind) Defects() []Defect { return slices.Clone(recipes[k].defects) }

// The sides that pictures may have, in pixels.
const (
	MinSize = 64
	MaxSize = 2048
)

// Line makes parts of one kind.
type Line struct {
	kind Kind
	seed uint64
	size int
}

// New makes a line of a kind of part, with pictures of size x size pixels.
// Lines of other seeds make other parts.
func New(kind Kind, seed uint64, size int) (*Line, error) {
	if !slices.Contains(Kinds, kind) {
		return nil, fmt.Errorf("part %q: expected %s", kind, orList(Kinds))
	}
	if size < MinSize || size > MaxSize {
		return nil, fmt.Errorf("size: expected %d to %d pixels, found %d", MinSize, MaxSize, size)
	}
	return &Line{kind: kind, seed: seed, size: size}, nil
}

func orList[T ~string](words []T) string {
	var list []string
	for _, word := range words {
		list = append(list, string(word))
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " or " + list[last]
}

// Part is the picture of one part.
type Part struct {
	Size int
	RGB  []byte // [Size][Size][3]
	// Mask is 255 where the defect is and 0 elsewhere, [Size][Size]; nil for a
	// good part.
	Mask     []byte
	Defect   Defect   // empty for a good part
	Severity Severity // empty for a good part
}

// Good makes a part without a defect. The sets of a line share no part.
func (l *Line) Good(set string, number int) *Part { return l.make(set, number, "", "") }

// Defective makes the same part with a defect, which must be one of the kind's.
func (l *Line) Defective(set string, number int, defect Defect, severity Severity) *Part {
	return l.make(set, number, defect, severity)
}

func (l *Line) make(set string, number int, defect Defect, severity Severity) *Part {
	random := func(purpose string) *stream { return newStream(l.seed, l.kind, set, number, purpose) }
	c := newCanvas(l.size)
	p := recipes[l.kind].begin(c, random("layout"), random("texture"))
	made := &Part{Size: l.size, Defect: defect, Severity: severity}
	on := func() {}
	if defect != "" {
		on = p.afflict(defect, severity, random("defect"))
	}
	p.draw()
	on()
	if defect != "" {
		made.Mask = c.mask()
	}
	made.RGB = c.expose(random("camera"))
	return made
}

// Image is the picture as an image.
func (p *Part) Image() image.Image {
	// An opaque RGBA picture is what package png writes as RGB without going
	// through every pixel's color.
	drawn := image.NewRGBA(image.Rect(0, 0, p.Size, p.Size))
	for i := range p.Size * p.Size {
		copy(drawn.Pix[4*i:], p.RGB[3*i:3*i+3])
		drawn.Pix[4*i+3] = 0xff
	}
	return drawn
}

// MaskImage is the mask as an image.
func (p *Part) MaskImage() image.Image {
	return &image.Gray{Pix: p.Mask, Stride: p.Size, Rect: image.Rect(0, 0, p.Size, p.Size)}
}
