"""Puts a guard in front of real agents: one engine behind every door, and a record of each decision it gave."""
