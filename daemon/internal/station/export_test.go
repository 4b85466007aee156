package station

import "context"

// stopContext ends when the station is told to stop.
func (s *Station) stopContext() context.Context { return s.stop }
