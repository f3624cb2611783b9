"""Adapters that put the service in front of agents which are written with an SDK; each asks through ``client``."""
