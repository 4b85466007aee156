package onnxruntime

// TryTurn and EndTurn show tests how calls share the processors.
func (b *Backend) TryTurn() bool { return processors.TryAcquire(b.share) }
func (b *Backend) EndTurn()      { b.endTurn() }
