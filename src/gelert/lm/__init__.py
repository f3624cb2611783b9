"""The bed: the only place that holds weights; it knows tokens, not trajectories."""
