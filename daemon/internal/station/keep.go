package station

import (
	"time"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// keptPicture is a frame on its way to the disk, beside its inspection.
type keptPicture struct {
	store  func(content []byte) (*ledger.StoredImage, error)
	done   chan struct{}
	file   []byte // PNG
	stored *ledger.StoredImage
	err    error
}

// keep begins to store a frame; nil: it is not kept.
func (s *Station) keep(taken *job) *keptPicture {
	if s.options.Keep == KeepNone || s.options.Images == nil {
		return nil
	}
	kept := &keptPicture{done: make(chan struct{})}
	station, triggerID, at, picture := s.options.Name, taken.draft.TriggerID, taken.draft.Times.Triggered.Time, taken.frame.Picture
	kept.store = func(content []byte) (*ledger.StoredImage, error) {
		return s.options.Images.Store(station, triggerID, at, content)
	}
	go func() {
		defer close(kept.done)
		// One at a time: the processors belong to the inspections.
		s.keeping.Lock()
		defer s.keeping.Unlock()
		if kept.file, kept.err = picture.EncodePNG(); kept.err != nil {
			return
		}
		// What may turn out OK is written when that is known.
		if s.options.Keep == KeepAll {
			kept.stored, kept.err = kept.store(kept.file)
			kept.file = nil
		}
	}()
	return kept
}

// wait returns the stored picture, or nil where there is none to be named:
// none wanted, none written, none written in time.
func (k *keptPicture) wait(s *Station, evaluation verdict.Evaluation, until time.Time) *ledger.StoredImage {
	if k == nil {
		return nil
	}
	timer := time.NewTimer(max(time.Until(until), 10*time.Millisecond))
	defer timer.Stop()
	inTime := func() bool {
		select {
		case <-k.done:
			return true
		case <-timer.C:
			s.options.Log.Warn("picture not kept: writing it would have made the verdict late", "station", s.options.Name)
			return false
		}
	}
	if !inTime() {
		return nil
	}
	if k.err == nil && k.stored == nil && evaluation != verdict.OK {
		k.done = make(chan struct{})
		go func(done chan struct{}) {
			defer close(done)
			k.stored, k.err = k.store(k.file)
		}(k.done)
		if !inTime() {
			return nil
		}
	}
	s.status.fault(faultImages, k.err)
	return k.stored
}

// discard removes a picture that no record will name, when it is written.
func (k *keptPicture) discard(s *Station) {
	if k == nil {
		return
	}
	go func() {
		<-k.done
		if k.stored == nil {
			return
		}
		if err := s.options.Images.Discard(k.stored); err != nil {
			s.options.Log.Error("picture without a record", "station", s.options.Name, "error", err)
		}
	}()
}
