"""What a data set says of a run, as Gold; none of it ever reaches the trajectory."""

from gelert.core.example import Gold
from gelert.core.taxonomy import builtin
from gelert.core.trajectory import Role, Step
from gelert.guard.formats.untrusted import Object, as_text, text_at

_REASONS = ("reason", "risk_description", "reason_for_label")
_HARMS = ("real_world_harm", "harm_type", "harm")
_SAFETY = ("label", "is_safe", "silver_label")


def gold_of(record: Object, *, attributes: tuple[str, ...] = (), group: str = "") -> Gold | None:
    """The labels that stand flat in ``record``, or None; names that no leaf bears become attributes."""
    named = (text_at(record, "risk_source"), text_at(record, "failure_mode"), text_at(record, *_HARMS))
    diagnosis = builtin().diagnosis(*named)
    kept = {key: as_text(record[key]) for key in attributes if record.get(key) is not None}
    axes = ("risk_source", "failure_mode", "real_world_harm")
    found = (diagnosis.risk_source, diagnosis.failure_mode, diagnosis.harm)
    kept |= {axis: text for axis, text, slug in zip(axes, named, found, strict=True) if text and slug is None}
    if not kept and not any(named) and not any(key in record for key in _SAFETY):
        return None
    return Gold(
        unsafe=unsafe_of(record),
        diagnosis=diagnosis,
        group=group,
        reason=text_at(record, *_REASONS),
        attributes=tuple(kept.items()),
    )


def unsafe_of(record: Object) -> bool | None:
    """True for ``label: 1`` or ``is_safe: false``, None where neither is said plainly."""
    if isinstance(safe := record.get("is_safe"), bool):
        return not safe
    label = record.get("label", record.get("silver_label"))
    if isinstance(label, str):
        label = {"1": 1, "0": 0, "unsafe": 1, "safe": 0}.get(label.strip().lower())
    return bool(label) if label in (0, 1) else None


def request_of(steps: list[Step]) -> str:
    """The user's first words with white space folded: the group of runs that answer one request."""
    return next((" ".join(step.text.split()) for step in steps if step.role == Role.USER), "")
