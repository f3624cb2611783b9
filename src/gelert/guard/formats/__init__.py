"""Readers of every agent log format, into one Trajectory."""
