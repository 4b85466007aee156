package virtualline

import (
	"flag"
	"image"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "draw the sheet of the documentation anew")

// The sheet of examples in the documentation shows what is drawn today. A row
// for each kind of part: a good one, then one with each kind of defect, its
// mask below.
func TestSheet(t *testing.T) {
	const size, gap = 96, 4
	sheet := image.NewRGBA(image.Rect(0, 0, 10*(size+gap)+gap, len(Kinds)*(2*(size+gap)+gap)))
	draw.Draw(sheet, sheet.Rect, image.White, image.Point{}, draw.Src)
	put := func(picture image.Image, column, row, below int) {
		at := image.Pt(gap+column*(size+gap), gap+row*(2*(size+gap)+gap)+below*(size+gap))
		draw.Draw(sheet, image.Rectangle{Min: at, Max: at.Add(image.Pt(size, size))}, picture, image.Point{}, draw.Src)
	}
	for row, kind := range Kinds {
		line := newLine(t, kind, 5, size)
		put(line.Good("sheet", 0).Image(), 0, row, 0)
		put(line.Good("sheet", 1).Image(), 0, row, 1)
		for i, defect := range kind.Defects() {
			part := line.Defective("sheet", 2+i, defect, Severities[i%2])
			put(part.Image(), 1+i, row, 0)
			put(part.MaskImage(), 1+i, row, 1)
		}
	}
	path := filepath.Join("..", "..", "docs", "images", "line.png")
	if *update {
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		encoder := png.Encoder{CompressionLevel: png.BestCompression}
		if err := encoder.Encode(file, sheet); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	shown, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	drawn := image.NewRGBA(shown.Bounds())
	draw.Draw(drawn, drawn.Rect, shown, image.Point{}, draw.Src)
	if !slices.Equal(drawn.Pix, sheet.Pix) {
		t.Error("docs/images/line.png shows something else than is drawn today; draw it anew with: go test ./capture/virtualline -run TestSheet -update")
	}
}
