"""All influence methods and their floors by the name that commands and records use."""

from gelert.core.errors import InputError
from gelert.forge.influence.floors import agreement, bm25, by_chance, diversity, length_matched, margin, representation
from gelert.forge.influence.methods import cosine, datainf, exact, prism, prism_per_token
from gelert.forge.influence.problem import Method

METHODS: dict[str, Method] = {
    "exact": exact,
    "prism": prism,
    "prism-per-token": prism_per_token,
    "datainf": datainf,
    "cosine": cosine,
}
"""From gradients."""

FLOORS: dict[str, Method] = {
    "random": by_chance(),
    "length-matched": length_matched(),
    "bm25": bm25,
    "representation": representation,
    "margin": margin,
    "agreement": agreement,
    "diversity": diversity,
}
"""Without the targets' gradients."""


def named(name: str, seed: int = 0) -> Method:
    """The method of this name; ``seed`` is of those that draw.

    Raises:
        InputError: there is none.
    """
    drawn = {"random": by_chance(seed), "length-matched": length_matched(seed)}
    found = (METHODS | FLOORS | drawn).get(name)
    if found is None:
        raise InputError(f"expected one of {', '.join(METHODS | FLOORS)}, got {name!r}")
    return found
