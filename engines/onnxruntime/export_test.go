package onnxruntime

import "errors"

// TryTurn and EndTurn show tests how calls share the processors.
func (b *Backend) TryTurn() bool { return processors.TryAcquire(b.share) }
func (b *Backend) EndTurn()      { b.endTurn() }

// UseGPU has a backend on processors look after a GPU, as one on it does: the least that
// shows what is done when it is lost.
func (b *Backend) UseGPU(options Options) { b.gpu = openGPU(options) }

// CannotOpen shows tests what a failure to open networks means.
func (b *Backend) CannotOpen(err error) error { return b.cannotOpen(err) }

// FreeLeft frees what a lost GPU has left to the end of the process, since a test's GPU is
// none.
func FreeLeft() (err error) {
	left.Lock()
	defer left.Unlock()
	for _, sessions := range left.sessions {
		for _, session := range sessions {
			err = errors.Join(err, session.close())
		}
		err = errors.Join(err, releaseEnvironment())
	}
	left.sessions = nil
	return err
}
