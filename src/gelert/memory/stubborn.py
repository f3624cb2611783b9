"""Which tokens of a text will resist, said before any training: from the frozen head and the model's own loss.

The hypothesis is ours: a token is stubborn when the frozen head leaves it no margin, because its row is small or near
another's. The published long text fails again and again at its only three tokens of the rarest rows. A figure says how
well each guess ranks the tokens that really fail.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gelert.core.errors import InputError
from gelert.core.seeds import stream_seed
from gelert.lm.certificate import certify
from gelert.lm.model import LanguageModel
from gelert.lm.objective import Example
from gelert.lm.trunk import Trunk

CHUNK_ROWS = 512
"""Rows of the head compared at once."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """What the frozen head leaves each of some tokens [n]."""

    norm: Floats
    """Length of its row, less the mean row."""
    margin: Floats
    """Most that its score can be above every other's, for a normalised state that looks along its own centred row."""
    nearest: Floats
    """Cosine of its centred row with the nearest other one."""


@torch.no_grad()
def geometry(model: LanguageModel, tokens: Sequence[int]) -> Geometry:
    """Compare the rows of ``tokens`` with all others; a token that comes twice is compared once.

    The final norm fixes the state's length to ``sqrt(width)`` before its scale, which is folded into the head here.
    """
    head: Tensor = model.net.lm_head.weight.float() * model.body.norm.weight.float()  # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
    rows = head - head.mean(0)
    lengths = rows.norm(dim=1)
    wanted, back = torch.tensor(list(tokens), device=rows.device).unique(return_inverse=True)
    margins: list[Tensor] = []
    cosines: list[Tensor] = []
    for part in wanted.split(CHUNK_ROWS):
        own = rows[part] / lengths[part, None].clamp_min(1e-12)
        along = own @ rows.mT
        score = along[torch.arange(len(part)), part]
        along[torch.arange(len(part)), part] = -torch.inf
        margins.append((score - along.max(1).values) * model.width**0.5)
        along /= lengths.clamp_min(1e-12)
        cosines.append(along.max(1).values)
    return Geometry(
        lengths[wanted][back].double().cpu().numpy(),
        torch.cat(margins)[back].double().cpu().numpy(),
        torch.cat(cosines)[back].double().cpu().numpy(),
    )


def predictors(model: LanguageModel, example: Example) -> dict[str, Floats]:
    """Guesses at how stubborn each supervised token is [t], larger for more: known before any training."""
    tokens = [example.ids[at] for at in example.supervised]
    found = geometry(model, tokens)
    (before,) = certify(Trunk(model, 0), [example], None, [0])
    counts = {token: tokens.count(token) for token in set(tokens)}
    return {
        "margin": -found.margin,
        "norm": -found.norm,
        "nearest": found.nearest,
        "loss before": np.array(before.losses),
        "token id": np.array(tokens, dtype=np.float64),
        "seen once": np.array([-float(counts[token]) for token in tokens]),
        "position": np.arange(len(tokens), dtype=np.float64),
        "earliness": -np.arange(len(tokens), dtype=np.float64),
    }


@dataclass(frozen=True)
class Guess:
    """How well a predictor ranks the tokens that fail above those that do not."""

    name: str
    auc: float
    low: float
    high: float
    """95 %, by bootstrap over tokens."""
    failing: int
    tokens: int


def judge(guesses: Mapping[str, Floats], failed: Floats, *, resamples: int = 1000, seed: int = 0) -> list[Guess]:
    """The AUC of each predictor, the best first.

    Args:
        guesses: of ``predictors``.
        failed: [t] how often each token failed, from 0 to 1, nan where nobody knows; see ``recall.stubbornness``. A
            token counts as stubborn when it failed at least as often as the median of those that ever did.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: no token failed, or all did.
    """
    known = np.isfinite(failed)
    ever = failed[known & (failed > 0)]
    if not len(ever):
        raise InputError("expected tokens that fail in cells which learn most of a text, got none: sweep smaller ranks")
    stubborn = (failed >= np.median(ever))[known]
    if stubborn.all():
        raise InputError("expected tokens that do not fail, got none: sweep larger ranks")
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(stream_seed(seed, "stubborn"))
    draws = generator.integers(0, len(stubborn), (resamples, len(stubborn)))
    found: list[Guess] = []
    for name, guess in guesses.items():
        values = guess[known]
        areas = [roc_auc_score(stubborn[rows], values[rows]) for rows in draws if 0 < stubborn[rows].sum() < len(rows)]
        low, high = np.percentile(areas, [2.5, 97.5])
        area = roc_auc_score(stubborn, values)
        found.append(Guess(name, float(area), float(low), float(high), int(stubborn.sum()), len(stubborn)))
    return sorted(found, key=lambda one: -one.auc)
