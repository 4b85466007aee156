package virtualline

import "testing"

// BenchmarkPart draws good parts of 256 px.
func BenchmarkPart(b *testing.B) {
	for _, kind := range Kinds {
		b.Run(string(kind), func(b *testing.B) {
			line, err := New(kind, 1, 256)
			if err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				line.Good("bench", i)
			}
		})
	}
}
