package station

import (
	"context"
	"fmt"
)

// Wait returns a trigger's terminal record as JSON, once there is one.
func (s *Station) Wait(ctx context.Context, triggerID string) ([]byte, error) {
	recorded := make(chan struct{}, 1)
	// First watch, then look: nothing falls between.
	defer s.options.Ledger.Watch(func(source string) {
		if source != s.source {
			return
		}
		select {
		case recorded <- struct{}{}:
		default:
		}
	})()
	for {
		record, err := s.options.Ledger.Record(triggerID)
		if record != nil || err != nil {
			return record, err
		}
		select {
		case <-recorded:
		case <-ctx.Done():
			return nil, fmt.Errorf("trigger %s has no record yet: %w", triggerID, ctx.Err())
		}
	}
}
