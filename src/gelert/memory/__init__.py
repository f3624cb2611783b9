"""Text written verbatim into a low-rank adapter: how much fits, what it takes, and the proof that it is there."""
