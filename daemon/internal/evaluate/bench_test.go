package evaluate

import (
	"bytes"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"gladd/internal/npy"
)

// BenchmarkFigures computes the seven figures of 1,000 pictures, maps of
// 256 x 256 on the disk, half of them with a mask of 512 x 512: what 'gladd
// eval' does beside the networks.
func BenchmarkFigures(b *testing.B) {
	const size, pictures = 256, 1000
	dir := b.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	mask := image.NewGray(image.Rect(0, 0, 512, 512))
	for y := 100; y < 180; y++ {
		for x := 60; x < 200; x++ {
			mask.Pix[y*512+x] = 255
		}
	}
	var content bytes.Buffer
	if err := png.Encode(&content, mask); err != nil {
		b.Fatal(err)
	}
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	write("mask.png", content.Bytes())
	var parts []scoredMap
	for i := range pictures {
		values := make([]float32, size*size)
		for j := range values {
			values[j] = random.Float32()
		}
		name := strconv.Itoa(i) + ".npy"
		write(name, npy.Encode(values, size, size))
		part := scoredMap{defective: i%2 == 1, score: random.Float64(), read: func() ([]float32, error) {
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return nil, err
			}
			return npy.Decode(content, size, size)
		}}
		if part.defective {
			part.mask = func() ([]bool, error) { return readMask(filepath.Join(dir, "mask.png"), 127, size) }
		}
		parts = append(parts, part)
	}
	runtime.GC()
	for b.Loop() {
		if _, _, err := measure(parts, size); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(peakMiB(b), "peak-MiB")
}

// peakMiB is the most memory that the process had at a time.
func peakMiB(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); fields[0] == "VmHWM:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatal("no VmHWM in /proc/self/status")
	return 0
}
