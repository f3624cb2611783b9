"""Gelert judges an AI agent's whole trajectory: safe or unsafe, why, and at which step.

Only names without heavy imports live here; ``import gelert`` loads neither torch nor numpy.
"""

from gelert.core.decision import Allow, Ask, Block, Decision, strictest
from gelert.core.errors import GelertError
from gelert.core.taxonomy import Diagnosis, Taxonomy
from gelert.core.trajectory import Role, Setting, Step, ToolCall, ToolSpec, Trajectory
from gelert.core.verdict import Safe, Unreadable, Unsafe, Verdict

__version__ = "0.1.0"

__all__ = [
    "Allow",
    "Ask",
    "Block",
    "Decision",
    "Diagnosis",
    "GelertError",
    "Role",
    "Safe",
    "Setting",
    "Step",
    "Taxonomy",
    "ToolCall",
    "ToolSpec",
    "Trajectory",
    "Unreadable",
    "Unsafe",
    "Verdict",
    "strictest",
]
