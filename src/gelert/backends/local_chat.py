"""A model on this machine to talk with: messages go in, in the model's own chat form, and its answer comes out.

What a message says is ordinary text: only the model's chat template opens and closes turns. A conversation that grows
costs what is new in it: the keys and values of all that it has in common with the last one are kept.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from gelert.backends.base import Answer, Failure, FailureKind, Message, Reply, Request
from gelert.backends.completion import TOP_LOGPROBS, label_logprobs
from gelert.backends.local import LocalModel
from gelert.core.errors import InputError, ModelError
from gelert.core.seeds import stream_seed

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from gelert.lm.bank import Bank
    from gelert.lm.letters import Letters
    from gelert.lm.model import LanguageModel

_PLACE = re.compile("\ue000([0-9]+)\ue001")
"""What stands for a message while the template is filled in: private characters, which no template has."""


ADAPTER = "adapter_config.json"
"""The file by which the folder of an adapter is told from that of a model."""


def opening(model: "LanguageModel | Letters", messages: Sequence[Message]) -> list[int] | Failure:
    """The tokens before an answer to ``messages``; a ``Failure`` if the chat template cannot tell them."""
    found = _parts(model, messages)
    return found if isinstance(found, Failure) else _tokens(model, messages, found)


def following(model: "LanguageModel | Letters", messages: Sequence[Message]) -> list[int] | Failure:
    """The tokens between an answer and the next one: what the template tells behind it, and the messages since.

    Args:
        model: whose tokens and chat template they are.
        messages: the last but one is the answer.
    """
    found = _parts(model, messages)
    if isinstance(found, Failure):
        return found
    return _tokens(model, messages, found[found.index(len(messages) - 2) + 1 :])


def _parts(model: "LanguageModel | Letters", messages: Sequence[Message]) -> list[str | int] | Failure:
    """What the chat template makes of messages, in order: the places of messages, and the text around them."""
    from jinja2 import TemplateError

    turns = [{"role": one.role, "content": f"\ue000{at}\ue001"} for at, one in enumerate(messages)]
    try:
        told = model.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **model.options)
    except (TemplateError, ValueError):
        return _unsupported(model, "refuses them")
    parts = [int(part) if at % 2 else part for at, part in enumerate(_PLACE.split(cast("str", told)))]
    if not set(range(len(messages))).issubset(parts):
        return _unsupported(model, "leaves some out")
    return parts


def _tokens(model: "LanguageModel | Letters", messages: Sequence[Message], parts: Sequence[str | int]) -> list[int]:
    ids: list[int] = []
    for part in parts:
        if isinstance(part, int):
            ids += model.encode(messages[part].content)
        else:
            ids += model.tokenizer.encode(part, add_special_tokens=False)
    return ids


class LocalChat:
    """A model that answers from any number of threads, one request after the other.

    Args:
        model: with all its blocks.
        bank: its first adapter acts on all tokens; None for the model as it is.
        seed: of the sampled answers to requests that have no seed of their own.

    Raises:
        ModelError: blocks are missing.
        InputError: the model has no chat template.
    """

    def __init__(self, model: LocalModel, bank: "Bank | None" = None, *, seed: int = 0) -> None:
        import torch

        from gelert.lm.blocks import plain
        from gelert.lm.session import Session

        self._model = model.model
        if self._model.layers != self._model.depth:
            raise ModelError(f"expected all {self._model.depth} blocks for answers, got the first {self._model.layers}")
        if not self._model.tokenizer.chat_template:
            raise InputError(f"expected a model with a chat template, got {self._model.name!r}")
        self._ends = ends(self._model)
        self._session = Session(self._model, linear=bank.linear([0]) if bank else plain)
        self._held: list[int] = []
        self._random = torch.Generator().manual_seed(stream_seed(seed, "local chat"))
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls, name: str = "smollm2-135m", *, dtype: Literal["float32", "bfloat16"] = "float32", seed: int = 0
    ) -> "LocalChat":
        """Load a model that ``gelert model pull`` fetched, a folder, a hub id, or the folder of an adapter.

        An adapter in PEFT's format is run on the model that its configuration names.

        Raises:
            MissingError: the extra ``local`` or the model is not installed; the message says the command.
            ModelError: the adapter cannot be run, or names no model.
        """
        folder = Path(name)
        if not (folder / ADAPTER).is_file():
            return cls(LocalModel.load(name, dtype=dtype), seed=seed)
        model = LocalModel.load(base(folder), dtype=dtype)
        from gelert.lm.peft import load  # the extra is there now

        return cls(model, load(model.model, [folder]), seed=seed)

    @property
    def name(self) -> str:
        """What the model was asked for by."""
        return self._model.name

    @property
    def concurrency(self) -> int:
        """One: an answer keeps all cores busy, and reads on from the last one."""
        return 1

    def ask(self, request: Request) -> Reply:
        """The model's answer, up to the end of its turn, ``max_tokens`` or the end of its context.

        It is a ``Failure`` if the messages leave no room for an answer, or are none that the chat template can tell.
        """
        started = time.monotonic()
        with self._lock:
            prompt = opening(self._model, request.messages)
            if isinstance(prompt, Failure):
                return prompt
            room = self._model.context - len(prompt)
            if room < 1:
                reason = f"expected a request of less than {self._model.context} tokens, got {len(prompt)}"
                return Failure(reason, FailureKind.TOO_LONG)
            self._keep(prompt)
            return self._answer(request, prompt, min(request.max_tokens, room), started)

    def _answer(self, request: Request, prompt: list[int], most: int, started: float) -> Answer:
        draw = self._drawing(request)
        unread, said = prompt[len(self._held) :], list[int]()
        labels, finish = None, "length"
        while len(said) < most:
            log_probs = self._read(unread)
            if request.labels and not said:
                labels = self._labels(log_probs, request.labels)
            token = draw(log_probs)
            if token in self._ends:
                finish = "stop"
                break
            said.append(token)
            unread = [token]
        text = self._model.decode(said)
        seconds = time.monotonic() - started
        return Answer(text, labels, finish, len(prompt), completion_tokens=len(said), seconds=seconds)

    def _keep(self, prompt: Sequence[int]) -> None:
        """Forget what is held beyond the beginning that it shares with ``prompt``, whose last token is to be read."""
        pairs = zip(self._held, prompt[:-1], strict=False)
        shared = next((at for at, (old, new) in enumerate(pairs) if old != new), min(len(self._held), len(prompt) - 1))
        del self._held[shared:]
        self._session.rewind(shared)

    def _read(self, tokens: Sequence[int]) -> "Tensor":
        """Log-probabilities [vocab] of what comes after ``tokens``, which are held from now on."""
        self._session.append(tokens[:-1])
        state = self._session.states([tokens[-1:]], [self._model.layers])[0, 0]
        self._session.append(tokens[-1:])
        self._held += tokens
        return self._model.log_probs(state.to(self._model.dtype))

    def _labels(self, log_probs: "Tensor", labels: Sequence[str]) -> tuple[tuple[str, float], ...] | None:
        """As an endpoint gives them: of the likeliest tokens."""
        likeliest = log_probs.topk(min(TOP_LOGPROBS, len(log_probs)))
        rows = [
            {"token": self._model.decode([token]), "logprob": value}
            for token, value in zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        ]
        return label_logprobs({"content": [{"top_logprobs": rows}]}, labels)

    def _drawing(self, request: Request) -> Callable[["Tensor"], int]:
        """How a token is chosen: the likeliest, or one drawn from ``p^(1 / temperature)``."""
        if request.temperature <= 0:
            return lambda log_probs: int(log_probs.argmax())
        random = self._random
        if request.seed is not None:
            import torch

            random = torch.Generator().manual_seed(stream_seed(request.seed, "local chat", "request"))
        return lambda log_probs: _drawn(log_probs, request.temperature, random)


def _unsupported(model: "LanguageModel | Letters", why: str) -> Failure:
    reason = f"expected messages that the chat template of {model.name!r} can tell, but it {why}"
    return Failure(reason, FailureKind.UNSUPPORTED)


def base(folder: Path) -> str:
    """The model that an adapter was made for.

    Raises:
        ModelError: its configuration cannot be read, or names none.
    """
    try:
        found: object = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise ModelError(f"expected the configuration of an adapter as JSON, got: {fault} ({folder})") from None
    name = cast("dict[str, object]", found).get("base_model_name_or_path") if isinstance(found, dict) else None
    if not isinstance(name, str) or not name:
        raise ModelError(f"expected base_model_name_or_path with the adapter's model, got {name!r} ({folder})")
    return name


def _drawn(log_probs: "Tensor", temperature: float, random: "Generator") -> int:
    scores = log_probs.double().cpu()
    likely = ((scores - scores.max()) / temperature).softmax(-1)
    return int(likely.multinomial(1, generator=random))


def ends(model: "LanguageModel | Letters") -> frozenset[int]:
    """The tokens that end a turn: the tokenizer's, and those that the model's makers list.

    A tokenizer without its model has no such list: there every special token ends a turn.
    """
    from gelert.lm.letters import Letters

    if isinstance(model, Letters):
        return frozenset(model.tokenizer.all_special_ids)
    told = cast("int | list[int] | None", model.net.generation_config.eos_token_id)
    own = cast("int | None", model.tokenizer.eos_token_id)
    return frozenset(token for token in (*(told if isinstance(told, list) else [told]), own) if token is not None)
