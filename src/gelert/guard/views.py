"""A run as texts of bounded length: each has the tools, how the run began, and a stretch of whole steps.

A run that fits is one view. A longer one is cut into several, each with a mark where something is left out; they
overlap by a step and together they show every token of every step, so nothing can be pushed out of sight. A step longer
than half the room is shown in parts. The last view is filled up backwards: it ends where the run ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gelert.backends.local import LocalModel
from gelert.core.errors import InputError
from gelert.core.trajectory import Role, Trajectory
from gelert.guard.prompts.render import elide, render
from gelert.guard.windows import CONTINUED

EARLIER = "\n(earlier steps are not shown here)"
LATER = "\n(later steps are not shown here)"

FEWEST_TOKENS = 256
"""A view has at least so much room."""


@dataclass(frozen=True, slots=True)
class Part:
    """A step's tokens, or some of them."""

    step: int
    role: Role
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class View:
    """One text of bounded length: ``lead``, then the parts, then ``rest``."""

    lead: tuple[int, ...]
    """The opening, the tools, and in a later view how the run began and a mark."""
    parts: tuple[Part, ...]
    rest: tuple[int, ...] = ()
    """A mark, if the run goes on."""

    @property
    def ids(self) -> tuple[int, ...]:
        """All its tokens."""
        return (*self.lead, *(token for part in self.parts for token in part.ids), *self.rest)

    def shows(self, step: int) -> bool:
        """Whether the end of this step is in it."""
        return step in {part.step for part in self.parts} and (not self.rest or self.parts[-1].step > step)


@dataclass(frozen=True, slots=True)
class Views:
    """All views of a run."""

    views: tuple[View, ...]
    """At least one."""
    elided_characters: int
    """Of standing texts and of a tool list that is longer than a quarter of the room."""


def views(model: LocalModel, run: Trajectory, max_tokens: int) -> Views:
    """The run in views of at most ``max_tokens``.

    Raises:
        InputError: there is less room than ``FEWEST_TOKENS``.
    """
    rendered = render(run)
    header, left_out = _header(model, rendered.header, max_tokens // 4)
    elided = rendered.elided_characters + left_out
    base = (*model.opening, *header)
    pieces = [tuple(model.encode(piece)) for piece in rendered.pieces]
    roles = [step.role for step in run.steps]
    whole = tuple(Part(at, role, ids) for at, (role, ids) in enumerate(zip(roles, pieces, strict=True)))
    if len(base) + sum(map(len, pieces)) <= max_tokens:
        return Views((View(base, whole),), elided)
    earlier, later = tuple(model.encode(EARLIER)), tuple(model.encode(LATER))
    lead = (*base, *_beginning(whole)[: max_tokens // 4], *earlier)
    room, mark = max_tokens - len(lead) - len(later), tuple(model.encode(CONTINUED))
    if max_tokens < FEWEST_TOKENS or room < 4 * len(mark):
        raise InputError(f"expected room for at least {FEWEST_TOKENS} tokens and for the marks, got {max_tokens}")
    parts = _parts(whole, room // 2, mark)
    spans = _spans([len(part.ids) for part in parts], room)
    return Views(
        tuple(
            View(
                lead if span.start else base,
                tuple(parts[span.start : span.stop]),
                later if span.stop < len(parts) else (),
            )
            for span in spans
        ),
        elided,
    )


def _header(model: LocalModel, text: str, most: int) -> tuple[list[int], int]:
    """The tokens of at most so many of a header, and how many characters are left out of its middle."""
    limit = len(text)
    while True:
        shown, left_out = elide(text, limit)
        ids = model.encode(shown)
        if len(ids) <= most or limit == 0:
            return ids, left_out
        limit = limit * 3 // 4


def _beginning(whole: Sequence[Part]) -> tuple[int, ...]:
    """What was said before the agent first acted: the task, and by which rules it is done."""
    first = next((at for at, part in enumerate(whole) if part.role is Role.AGENT), len(whole))
    return tuple(token for part in whole[:first] for token in part.ids)


def _parts(whole: Sequence[Part], most: int, mark: tuple[int, ...]) -> list[Part]:
    """Steps, those longer than ``most`` tokens in parts of that size; all but the first begin with ``mark``."""
    found: list[Part] = []
    size = most - len(mark)
    for part in whole:
        cuts = range(0, max(len(part.ids), 1), size) if len(part.ids) > most else range(1)
        for cut in cuts:
            ids = part.ids if len(cuts) == 1 else part.ids[cut : cut + size]
            found.append(Part(part.step, part.role, (*mark, *ids) if cut else ids))
    return found


def _spans(sizes: Sequence[int], room: int) -> list[slice]:
    """Stretches of parts that fit, each beginning with the last part of the one before; the last one filled up.

    Every part is at most half the room, so that each stretch goes on.
    """
    found: list[slice] = []
    start = 0
    while True:
        stop, used = start, 0
        while stop < len(sizes) and used + sizes[stop] <= room:
            used += sizes[stop]
            stop += 1
        if stop == len(sizes):
            while start > 0 and used + sizes[start - 1] <= room:
                start -= 1
                used += sizes[start]
            return [*found, slice(start, stop)]
        found.append(slice(start, stop))
        start = stop - 1
