package mes

import "net"

// WithResolver has a broker's name looked up otherwise.
func WithResolver(broker Broker, resolver *net.Resolver) Broker {
	broker.resolver = resolver
	return broker
}
