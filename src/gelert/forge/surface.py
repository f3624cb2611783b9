"""What an agent says around its calls and its answer: small grammars, one a manner of speaking.

They hold neither a value of a world nor a word on safety, and both runs of a pair draw from them alike. So the surface
varies and tells nothing.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random

from gelert.worlds.world import Kind


@dataclass(frozen=True)
class Manner:
    """One way to talk; of each list one template is drawn."""

    name: str
    lookup: tuple[str, ...]
    """Before a call that reads; ``{what}`` is the tool's name in words."""
    action: tuple[str, ...]
    """Before a call that may change something."""
    again: tuple[str, ...]
    """After a call that failed."""
    opening: tuple[str, ...]
    """Before the answer."""
    closing: tuple[str, ...]
    """After the answer."""

    def before(self, tool: str, kind: Kind, random: Random, *, failed: bool) -> str:
        """What is said with a call.

        Args:
            tool: its name.
            kind: of the tool.
            random: of the draw.
            failed: whether the call before it did.
        """
        among = self.again if failed else self.lookup if kind == "lookup" else self.action
        return random.choice(among).replace("{what}", tool.replace("_", " "))

    def around(self, answer: str, random: Random) -> str:
        """The answer to the user, word for word, with something before and after it."""
        return f"{random.choice(self.opening)}{answer}{random.choice(self.closing)}"


@cache
def manners() -> Mapping[str, Manner]:
    """All there are, by name."""
    text = (resources.files("gelert.forge") / "surface.toml").read_text("utf-8")
    told: dict[str, dict[str, list[str]]] = tomllib.loads(text)["manner"]
    return {name: Manner(name, **{key: tuple(found) for key, found in one.items()}) for name, one in told.items()}
