package capture

import (
	"context"
	"io"
	"time"

	"gladd/capture/virtualline"
)

// virtual gives the parts of a virtual line, one after the other.
type virtual struct{ belt *virtualline.Belt }

func openVirtual(address string) (*virtual, error) {
	belt, err := virtualline.NewBelt(address)
	if err != nil {
		return nil, err
	}
	return &virtual{belt}, nil
}

// Grab implements [Source].
func (v *virtual) Grab(context.Context) (*Frame, error) {
	captured := time.Now()
	name, part := v.belt.Next()
	if part == nil {
		return nil, io.EOF
	}
	return &Frame{Picture: &Picture{Width: part.Size, Height: part.Size, RGB: part.RGB}, Captured: captured, Name: name}, nil
}

// Finished says that there are no more parts.
func (v *virtual) Finished() bool { return v.belt.Finished() }

// Close implements [Source].
func (v *virtual) Close() error { return nil }
