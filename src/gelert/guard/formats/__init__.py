"""Readers of every agent log format, into one Trajectory; and ATIF out again."""

from gelert.guard.formats.atif_write import write_atif
from gelert.guard.formats.door import Ignored, read, read_value, read_values
from gelert.guard.formats.limits import Limits
from gelert.guard.formats.registry import FORMATS

__all__ = ["FORMATS", "Ignored", "Limits", "read", "read_value", "read_values", "write_atif"]
