"""How much the service does for anybody at once, and how long it takes to answer."""

from dataclasses import dataclass

from gelert.guard.formats.limits import Limits as LogLimits


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is asked; what exceeds one gets a decision without a verdict."""

    deadline_seconds: float = 10.0
    """From the question to its recorded decision. Every runtime's hook must wait longer than this."""
    max_waiting: int = 256
    """Questions that wait for the guard; one more is decided without it."""
    max_sessions: int = 64
    """Runs whose keys and values are kept; the one that was asked about longest ago is read anew when it comes back."""
    max_session_bytes: int = 1 << 30
    """Keys, values, counts and words of all of them together."""
    idle_seconds: float = 1800.0
    """How long a run is kept that nobody asks about."""
    max_bytes: int = 16 << 20
    """Of one request."""
    max_depth: int = 100
    """Lists and objects inside each other in one request."""
    max_steps: int = 5_000
    """Of one run."""
    max_runs: int = 4_096
    """Runs that grow under ``/v1/sessions`` at once."""
    max_kept_bytes: int = 512 << 20
    """Texts of all these runs together."""

    @property
    def log(self) -> LogLimits:
        """What a reader of logs may read of one request."""
        return LogLimits(self.max_bytes, self.max_bytes, self.max_depth, self.max_steps, max_records=2, max_files=1)
