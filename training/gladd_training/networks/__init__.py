"""Networks of a gladd bundle, small enough for a CPU."""
