"""The wire form of an OpenAI-compatible chat completion: the body that is sent, and how the answer is read.

Everything here is a pure function of bytes. What a server sends is not trusted: any shape gives an answer or a failure.
"""

import json
import math
from collections.abc import Mapping, Sequence

from gelert.backends.base import Answer, Failure, FailureKind, Request

TOP_LOGPROBS = 20
"""How many of the likeliest first tokens are asked for: the most that the OpenAI API and vLLM give by default."""


def encode(request: Request, model: str, extra: Mapping[str, object]) -> bytes:
    """The body of a request. Lone surrogates, which no server accepts, become U+FFFD."""
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": m.role, "content": _whole(m.content)} for m in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": False,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.labels:
        body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return json.dumps({**body, **extra}).encode()


def decode(data: bytes, labels: Sequence[str] = (), seconds: float = 0.0) -> Answer | Failure:
    """The answer in a completion's body, or what is wrong with it."""
    try:
        body: object = json.loads(data)
    except (ValueError, RecursionError):
        return _malformed("JSON", "something else")
    if not isinstance(body, dict):
        return _malformed("a JSON object", type(body).__name__)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return _malformed("a list 'choices' with an object in it", "none")
    choice = choices[0]
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str):
        return _malformed("a text as the message's 'content'", type(content).__name__)
    finish, usage = choice.get("finish_reason"), body.get("usage")
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    return Answer(
        text=_whole(content),
        label_logprobs=label_logprobs(choice.get("logprobs"), labels),
        finish_reason=finish if isinstance(finish, str) else "",
        prompt_tokens=_count(usage, "prompt_tokens"),
        cached_tokens=_count(details, "cached_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        seconds=seconds,
    )


def label_logprobs(logprobs: object, labels: Sequence[str]) -> tuple[tuple[str, float], ...] | None:
    """Log-probability of each label at the first generated token, or None if no label stands there.

    A token speaks for a label if it begins it, case and surrounding space aside: ``" safe"``, ``"Safe"`` and ``"sa"``
    speak for ``safe``, ``"un"`` for ``unsafe``. A token that begins several labels speaks for none. A label's
    tokens' probabilities are added.
    """
    sums: dict[str, float] = {}
    for token, logprob in _first_tokens(logprobs):
        piece = token.strip(" \t\r\n\u0120\u010a\u2581").casefold()
        named = [label for label in labels if piece and label.casefold().startswith(piece)]
        if len(named) == 1:
            sums[named[0]] = sums.get(named[0], 0.0) + math.exp(min(logprob, 0.0))
    found = tuple((label, math.log(sums[label])) for label in labels if sums.get(label, 0.0) > 0.0)
    return found or None


def _first_tokens(logprobs: object) -> list[tuple[str, float]]:
    """The likeliest first tokens; each distinct token once."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict):
        return []
    top = first.get("top_logprobs")
    found: dict[str, float] = {}
    for row in [*(top if isinstance(top, list) else []), first]:
        if not isinstance(row, dict):
            continue
        token, logprob = row.get("token"), row.get("logprob")
        if isinstance(token, str) and isinstance(logprob, int | float) and math.isfinite(logprob):
            found.setdefault(token, float(logprob))
    return list(found.items())


def _count(usage: object, key: str) -> int | None:
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _whole(text: str) -> str:
    """``text`` with surrogate pairs joined and lone surrogates replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _malformed(expected: str, came: str) -> Failure:
    return Failure(f"expected {expected} from the endpoint, got {came}", FailureKind.MALFORMED)
