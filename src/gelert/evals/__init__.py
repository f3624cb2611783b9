"""Figures of a guard, each beside its floors and with intervals."""
