package onnxruntime

import "context"

// Turn, EndTurn and AtOnce show tests how calls share the processors.
func (b *Backend) Turn(ctx context.Context) error { return b.turn(ctx) }
func (b *Backend) EndTurn()                       { b.endTurn() }
func (b *Backend) AtOnce() int                    { return cap(b.calls) }
