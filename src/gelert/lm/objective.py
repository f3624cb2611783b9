"""What training makes small: likelihood, verdicts and MemFT, for our loop and for other trainers.

``nll`` and ``verdict`` give token losses from the residual stream after the last block; ``gelert.lm.weights`` says how
much each counts. ``graded`` adds each row's verdict margin, by which ``twin_loss`` sets a safe run apart from its
unsafe twin. ``memft_loss`` is MemFT for the trainers of other libraries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gelert.core.errors import InputError
from gelert.lm.model import LanguageModel
from gelert.lm.scoring import label_log_probs, token_scores
from gelert.lm.weights import METHODS, Rule, SlidingWindow, Window, settled, weighted_mean, weights

IGNORED = -100
"""Label of a token that is not supervised, as Hugging Face trainers have it."""


@dataclass(frozen=True)
class Example:
    """A text to learn from."""

    ids: tuple[int, ...]
    """All its tokens."""
    weights: tuple[float, ...]
    """For each token how much predicting it counts; the first cannot be predicted and must be 0."""
    twin: str = ""
    """Examples that tell one story with another verdict share it; empty where there is no other."""

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.ids) or not any(self.weights) or self.weights[0] or min(self.weights) < 0:
            raise InputError("expected a weight of 0 or more for each token, 0 for the first and some above 0")

    @cached_property
    def supervised(self) -> tuple[int, ...]:
        """Positions of the tokens with a weight above 0."""
        return tuple(at for at, weight in enumerate(self.weights) if weight)


@dataclass(frozen=True)
class Scored:
    """Losses of N supervised tokens: row after row, each row's in order."""

    losses: Tensor
    """[N] nats, differentiable."""
    right: Tensor
    """[N] whether each is the most probable one."""
    weights: Tensor
    """[N] what the examples say that each counts."""
    sizes: tuple[int, ...]
    """How many of them each row has."""
    margins: "Margins | None" = None
    """Where the verdict of each row is given; for ``twin_loss``."""


@dataclass(frozen=True)
class Margins:
    """How far rows lean to unsafe, and what they are."""

    values: Tensor
    """[rows] log-odds of unsafe against safe, differentiable."""
    unsafe: tuple[bool, ...]


Objective = Callable[[LanguageModel, Tensor, Sequence[Example]], Scored]
"""What is to be made small, from the residual stream [B, n, width] and the examples that the rows are."""


def nll(model: LanguageModel, hidden: Tensor, examples: Sequence[Example]) -> Scored:
    """Negative log-likelihood of each supervised token."""
    places = [example.supervised for example in examples]
    rows = torch.tensor([row for row, ats in enumerate(places) for _ in ats], device=hidden.device)
    ats = torch.tensor([at for own in places for at in own], device=hidden.device)
    wanted = [example.ids[at] for example, own in zip(examples, places, strict=True) for at in own]
    counts = [example.weights[at] for example, own in zip(examples, places, strict=True) for at in own]
    losses, right = token_scores(model, hidden[rows, ats - 1], torch.tensor(wanted, device=hidden.device))
    return Scored(losses, right, torch.tensor(counts, device=hidden.device).to(losses), tuple(map(len, places)))


def verdict(labels: Sequence[int]) -> Objective:
    """Negative log-likelihood of the right label among ``labels``, at the last token that is supervised.

    With two labels this is the logistic loss ``log(1 + exp(-m))`` of the margin m between right and wrong.
    """

    def scored(model: LanguageModel, hidden: Tensor, examples: Sequence[Example]) -> Scored:
        ats = [example.supervised[-1] for example in examples]
        found = [example.ids[at] for example, at in zip(examples, ats, strict=True)]
        if unknown := set(found) - set(labels):
            raise InputError(f"expected examples that end in one of the labels {list(labels)}, got {sorted(unknown)}")
        rows = torch.arange(len(examples), device=hidden.device)
        scores = label_log_probs(model, hidden[rows, torch.tensor(ats, device=hidden.device) - 1], labels)
        wanted = torch.tensor([list(labels).index(token) for token in found], device=hidden.device)
        losses = -scores[rows, wanted]
        return Scored(losses, scores.argmax(-1) == wanted, torch.ones_like(losses), (1,) * len(examples))

    return scored


def graded(labels: tuple[int, int]) -> Objective:
    """``nll``, and the margin of each row at its first supervised token, which is the verdict.

    Args:
        labels: the tokens for safe and unsafe.
    """

    def scored(model: LanguageModel, hidden: Tensor, examples: Sequence[Example]) -> Scored:
        found = nll(model, hidden, examples)
        ats = [example.supervised[0] for example in examples]
        given = [example.ids[at] for example, at in zip(examples, ats, strict=True)]
        if unknown := set(given) - set(labels):
            raise InputError(f"expected examples that begin with one of the labels {labels}, got {sorted(unknown)}")
        rows = torch.arange(len(examples), device=hidden.device)
        states = hidden[rows, torch.tensor(ats, device=hidden.device) - 1]
        safe, unsafe = model.logits(states, torch.tensor(labels, device=hidden.device)).unbind(-1)
        return replace(found, margins=Margins(unsafe - safe, tuple(token == labels[1] for token in given)))

    return scored


@dataclass(frozen=True)
class Twins:
    """How much a safe and an unsafe run of one story are set apart, beside what each learns by itself."""

    weight: float = 1.0
    """Times the mean loss of a pair, nats."""
    form: Literal["logistic", "hinge"] = "logistic"
    """Of d, the unsafe one's margin less the safe one's: ``log(1 + exp(-d))`` or ``max(0, 1 - d)``."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(f"expected a weight of the twins above 0, got {self.weight}")


def twin_loss(margins: Margins, twins: Sequence[str], form: Literal["logistic", "hinge"] = "logistic") -> Tensor:
    """Mean loss of all pairs of a safe and an unsafe row that share a twin; 0 where there is none.

    Args:
        margins: of the rows.
        twins: the story of each; an empty one has no twin.
        form: see ``Twins``.
    """
    values, unsafe, rows = margins.values, margins.unsafe, range(len(twins))
    pairs = [(u, s) for u in rows for s in rows if unsafe[u] and not unsafe[s] and twins[u] and twins[u] == twins[s]]
    if not pairs:
        return values.sum() * 0
    harmful, harmless = torch.tensor(pairs, device=values.device).unbind(-1)
    apart = values[harmful] - values[harmless]
    return (nn.functional.softplus(-apart) if form == "logistic" else nn.functional.relu(1 - apart)).mean()


class Outputs(Protocol):
    """What a causal language model of Transformers gives back."""

    @property
    def logits(self) -> Tensor:
        """Scores ``[B, n, vocab]``."""
        ...


@dataclass
class MemftLoss:
    """A MemFT loss that a Hugging Face ``Trainer`` or TRL ``SFTTrainer`` takes as ``compute_loss_func``.

    A document is a row of the batch, or a packed part of one: then ``watch`` the model that the trainer calls, and no
    document learns across another's border. The sliding window's patience belongs to a document, found again by its
    tokens in whatever batch it comes.

    The loss is the weighted mean over the batch. Of several batches that share a step, each counts by its number of
    supervised tokens: for likelihood this is the trainer's own loss.
    """

    rule: Rule
    windows: dict[bytes, Window] = field(default_factory=dict[bytes, Window])
    """The sliding window of each document, by its supervised tokens."""
    stopped: bool = False
    """The last batch had no token to learn and the rule says to stop: for a callback that ends the training."""
    _seen: Tensor | None = None

    def __call__(
        self,
        outputs: Outputs,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
        *,
        position_ids: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, differentiable.

        Args:
            outputs: whose ``logits`` ``[B, n, vocab]`` at t predict the token at t + 1.
            labels: ``[B, n]`` ids, -100 where not supervised.
            num_items_in_batch: supervised tokens of all batches that share this step; of this one by default.
            position_ids: ``[B, n]``; a document begins where they do not rise.
            cu_seqlens: where the documents of a batch of one row begin, with its end, instead of ``position_ids``.
        """
        places = _places(labels, self._seen if position_ids is None else position_ids, cu_seqlens)
        kept = (labels[:, 1:] != IGNORED) & (places[:, 1:] == places[:, :-1])
        targets, logits = labels[:, 1:][kept], outputs.logits[:, :-1][kept]
        scores = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        losses = -scores.gather(1, targets[:, None])[:, 0]
        found = self._weights(losses.detach(), logits.argmax(-1) == targets, places[:, 1:][kept], targets)
        found, stop = settled(self.rule, found, torch.ones_like(found, dtype=torch.bool))
        self.stopped = bool(stop)
        mean = weighted_mean(losses, found)
        return mean if num_items_in_batch is None else mean * ((labels[:, 1:] != IGNORED).sum() / num_items_in_batch)

    def watch(self, model: nn.Module) -> RemovableHandle:
        """Read the position ids that ``model`` is called with, for batches that are packed.

        Give the module that the trainer calls, such as ``trainer.model``.
        """

        def see(_module: nn.Module, _inputs: tuple[object, ...], named: dict[str, object]) -> None:
            self._seen = cast("Tensor | None", named.get("position_ids"))

        return model.register_forward_pre_hook(see, with_kwargs=True)

    def _weights(self, losses: Tensor, right: Tensor, document: Tensor, targets: Tensor) -> Tensor:
        """Weight of each supervised token [N]; the tokens of a document follow each other."""
        sizes = document.unique_consecutive(return_counts=True)[1].tolist()
        pieces: list[Tensor] = []
        for own, hits, ids in zip(losses.split(sizes), right.split(sizes), targets.split(sizes), strict=True):
            if not isinstance(self.rule, SlidingWindow):
                pieces.append(weights(self.rule, own, hits, Window.fresh())[0])
                continue
            key = ids.cpu().numpy().tobytes()
            piece, self.windows[key] = weights(
                self.rule, own, hits, self.windows.get(key, Window.fresh((), own.device))
            )
            pieces.append(piece)
        return torch.cat(pieces) if pieces else losses


def memft_loss(rule: Rule | str = "memft-ot") -> MemftLoss:
    """A loss for ``Trainer(compute_loss_func=...)``.

    Args:
        rule: the weights, or the name of one in ``METHODS``.

    Raises:
        InputError: there is no rule of that name.
    """
    if isinstance(rule, str) and rule not in METHODS:
        raise InputError(f"expected one of {', '.join(METHODS)}, got {rule!r}")
    return MemftLoss(METHODS[rule] if isinstance(rule, str) else rule)


def _places(labels: Tensor, position_ids: Tensor | None, cu_seqlens: Tensor | None) -> Tensor:
    """A number for each token [B, n] that its document alone has."""
    starts = torch.zeros_like(labels, dtype=torch.bool)
    starts[:, 0] = True
    if cu_seqlens is not None:
        if labels.shape[0] != 1 or int(cu_seqlens[-1]) != labels.shape[1]:
            raise InputError(f"expected cu_seqlens that end at the length of one row, got a batch of {labels.shape}")
        starts[0, cu_seqlens[:-1].to(labels.device, torch.long)] = True
    elif position_ids is not None:
        starts[:, 1:] |= position_ids[:, 1:] <= position_ids[:, :-1]
    return starts.flatten().cumsum(0).view_as(labels)
