"""The state of an episode: frozen tables that all episodes share, and what this one has changed.

The change is kept apart, so that it is at once the diff, the evidence of a reward and all that an episode costs. A fork
takes constant time: what has been changed so far becomes a layer that both share.

Each field of a row carries the places its value came from outside (its taint): ``inbox/m3.body`` is the field ``body``
of row ``m3`` of table ``inbox``.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

Value = str | int | float | bool | None
"""What a field holds."""

Row = Mapping[str, Value]

Taint = frozenset[str]
"""Places outside, from which a value came."""

CLEAN: Taint = frozenset()

Taints = Mapping[str, Taint]
"""Of a row's fields; a field that is not there is clean."""

NO_TAINTS: Taints = MappingProxyType({})

Stored = tuple[Row, Taints]

PRESENCE = ""
"""The table, of no world, that keeps what decided which rows there are."""

DEEPEST = 16
"""Layers that a reading goes through at most; then they are merged."""


@dataclass(frozen=True, slots=True)
class Base:
    """Tables that nothing changes: name of the table, key of the row, fields."""

    tables: Mapping[str, Mapping[str, Stored]]

    @classmethod
    def of(cls, tables: Mapping[str, Mapping[str, Row]], untrusted: frozenset[tuple[str, str]]) -> "Base":
        """Freeze ``tables``.

        Args:
            tables: by name; copied.
            untrusted: table and field of the values that come from outside.
        """
        return cls(
            MappingProxyType(
                {
                    name: MappingProxyType({key: stored(name, key, row, untrusted) for key, row in rows.items()})
                    for name, rows in tables.items()
                }
            )
        )


def stored(table: str, key: str, row: Row, untrusted: frozenset[tuple[str, str]]) -> Stored:
    """A row as it comes into a world: what is untrusted in it is marked with its own place.

    >>> stored("inbox", "m3", {"body": "hello"}, frozenset({("inbox", "body")}))[1]["body"]
    frozenset({'inbox/m3.body'})
    """
    taints = {name: frozenset({f"{table}/{key}.{name}"}) for name in row if (table, name) in untrusted}
    return MappingProxyType(dict(row)), MappingProxyType(taints) if taints else NO_TAINTS


Changes = dict[str, dict[str, Stored | None]]
"""By table and key; ``None`` where the row is gone."""


class Layer:
    """Changes that are shared and never touched again, above others."""

    __slots__ = ("below", "changes", "depth")

    def __init__(self, below: "Layer | None", changes: Changes) -> None:
        self.below, self.changes = below, changes
        self.depth = 1 if below is None else below.depth + 1


@dataclass(frozen=True, slots=True)
class Change:
    """One row that is not as it was."""

    table: str
    key: str
    before: Stored | None
    after: Stored | None


class State:
    """What an episode sees: a base, shared layers and its own changes.

    Args:
        base: shared by any number of states.
        below: shared too.
    """

    __slots__ = ("_base", "_below", "_own")

    def __init__(self, base: Base, below: Layer | None = None) -> None:
        self._base, self._below = base, below
        self._own: Changes | None = None

    def fork(self) -> "State":
        """Another state with the same content; from now on neither sees what the other changes."""
        if self._own is not None:
            below = Layer(self._below, self._own)
            self._below = below if below.depth < DEEPEST else Layer(None, _merged(below))
            self._own = None
        return State(self._base, self._below)

    def unchanged(self, since: "State", tables: frozenset[str]) -> bool:
        """Whether these tables are as in ``since``, of which this is a fork, as far as that can be seen at once."""
        return self._below is since._below and (self._own is None or self._own.keys().isdisjoint(tables))

    def pristine(self, tables: frozenset[str]) -> bool:
        """Whether these tables are as in the base."""
        if self._own is not None and not self._own.keys().isdisjoint(tables):
            return False
        layer = self._below
        while layer is not None:
            if not layer.changes.keys().isdisjoint(tables):
                return False
            layer = layer.below
        return True

    def get(self, table: str, key: str) -> Stored | None:
        """The row, or None where there is none."""
        if self._own is not None and table in self._own and key in self._own[table]:
            return self._own[table][key]
        layer = self._below
        while layer is not None:
            rows = layer.changes.get(table)
            if rows is not None and key in rows:
                return rows[key]
            layer = layer.below
        rows = self._base.tables.get(table)
        return None if rows is None else rows.get(key)

    def rows(self, table: str) -> Collection[tuple[str, Stored]]:
        """All rows of a table: those of the base in their order, then new ones in the order of their coming."""
        changed = self._changed(table)
        base = self._base.tables[table]
        if not changed:
            return base.items()
        kept = [(key, changed.get(key, row)) for key, row in base.items()]
        kept += [(key, row) for key, row in changed.items() if key not in base]
        return [(key, row) for key, row in kept if row is not None]

    def presence(self, table: str) -> Taint:
        """What has decided which rows the table has."""
        mark = self.get(PRESENCE, table)
        return CLEAN if mark is None else mark[1][PRESENCE]

    def decided(self, table: str, taint: Taint) -> None:
        """Rows have come or gone because of ``taint``."""
        self.put(PRESENCE, table, ({}, {PRESENCE: self.presence(table) | taint}))

    def put(self, table: str, key: str, row: Stored) -> None:
        """Set a row."""
        self._of(table)[key] = row

    def drop(self, table: str, key: str) -> None:
        """Delete a row."""
        self._of(table)[key] = None

    def fresh(self, table: str) -> str:
        """A key that no row of the table has or has had: the number of rows ever, and one."""
        return f"n{sum(key not in self._base.tables[table] for key in self._changed(table)) + 1}"

    def diff(self, since: "State") -> list[Change]:
        """Rows that are not as they were in ``since``, an earlier fork, by table and key."""
        found: list[Change] = []
        for table in sorted(self._base.tables):
            for key in sorted(self._changed(table)):
                before, after = since.get(table, key), self.get(table, key)
                if before != after:
                    found.append(Change(table, key, before, after))
        return found

    def _of(self, table: str) -> dict[str, Stored | None]:
        if self._own is None:
            self._own = {}
        return self._own.setdefault(table, {})

    def _changed(self, table: str) -> Mapping[str, Stored | None]:
        """All changes of a table over the base, the oldest first."""
        layers = [self._own[table]] if self._own is not None and table in self._own else []
        layer = self._below
        while layer is not None:
            if table in layer.changes:
                layers.append(layer.changes[table])
            layer = layer.below
        if len(layers) < 2:
            return layers[0] if layers else {}
        found: dict[str, Stored | None] = {}
        for changes in reversed(layers):
            found.update(changes)
        return found


def _merged(top: Layer) -> Changes:
    layers: list[Layer] = []
    layer: Layer | None = top
    while layer is not None:
        layers.append(layer)
        layer = layer.below
    found: Changes = {}
    for one in reversed(layers):
        for table, rows in one.changes.items():
            found.setdefault(table, {}).update(rows)
    return found
