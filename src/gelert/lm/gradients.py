"""Per-example gradients of the verdict margin by a low-rank adapter above a cached trunk, exact or sketched."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from gelert.core.errors import InputError
from gelert.lm.bank import Bank
from gelert.lm.trunk import Trunk

Sketch = Callable[[Tensor], Tensor]
"""Takes a gradient [parameters] to fewer numbers."""


def margin(trunk: Trunk, bank: Bank, ids: Sequence[int], labels: tuple[int, int], *, adapter: int = 0) -> Tensor:
    """``logit(unsafe) - logit(safe)`` of the token after ``ids``, differentiable by the adapter's factors.

    Args:
        trunk: below the adapter; its activations come from its cache.
        bank: adapters on maps above the trunk.
        ids: tokens of the run and the question.
        labels: the tokens for safe and unsafe.
        adapter: which of the bank.
    """
    hidden = trunk.upper(trunk.activations(ids)[None], linear=bank.linear([adapter]))
    wanted = torch.tensor(labels, device=hidden.device)
    safe, unsafe = trunk.model.logits(hidden[:, -1], wanted)[0]
    return unsafe - safe


def margin_gradients(
    trunk: Trunk,
    bank: Bank,
    runs: Iterable[Sequence[int]],
    labels: tuple[int, int],
    *,
    adapter: int = 0,
    sketch: Sketch | None = None,
) -> Iterator[Tensor]:
    """For each run its margin's gradient [parameters], detached, in the order of ``flattened``.

    Raises:
        InputError: an adapter is on a map below the trunk's end, where its gradient would be lost.
    """
    if lost := [name for name in bank.pairs if not trunk.carries(name)]:
        raise InputError(f"expected adapters above a trunk of {trunk.layer} blocks, got one at {lost[0]!r}")
    rank, factors = bank.specs[adapter].rank, bank.parameters()
    for ids in runs:
        with torch.enable_grad():
            found = torch.autograd.grad(margin(trunk, bank, ids, labels, adapter=adapter), factors)
        flat = flattened(bank, found, adapter, rank)
        yield flat if sketch is None else sketch(flat)


def flattened(bank: Bank, factors: Sequence[Tensor], adapter: int, rank: int) -> Tensor:
    """One adapter's factors, or their gradients, as one vector without padding: map by map, first A, then B."""
    pieces: list[Tensor] = []
    for number in range(len(bank.pairs)):
        down, up = factors[2 * number], factors[2 * number + 1]
        pieces += [down[adapter, :rank].flatten(), up[adapter, :, :rank].flatten()]
    return torch.cat(pieces).detach()
