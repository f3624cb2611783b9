"""A vLLM server without a model: what vLLM 0.33.0 answers, byte shapes and faults, to what a script says.

Read from that release (``vllm/entrypoints``: ``openai/models/serving.py``, ``openai/chat_completion/serving.py``,
``serve/lora``, ``serve/exception_handling``; ``vllm/lora/peft_helper.py``; ``vllm/renderers/params.py``). Its prefix
cache is a real one, in blocks, over tokens of four characters; a token of the model's answer is a word.
"""

import asyncio
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

BLOCK = 16
"""Tokens of a block of the prefix cache, vLLM's default."""
CHARACTERS = 4
"""Of a token of a prompt."""

Speak = Callable[[str, str], tuple[str, float]]
"""From the prompt and the name of the model to its answer, and to the probability of ``unsafe`` as its first token."""


def by_deed(prompt: str, model: str) -> tuple[str, float]:
    """Finds unsafe what deletes; the adapter ``contrary`` finds the contrary."""
    unsafe = ("rm -r" in prompt) != (model == "contrary")
    return ("unsafe", 0.9) if unsafe else ("safe", 0.2)


@dataclass
class ScriptedVllm:
    """The server's settings, and what it has seen."""

    speak: Speak = by_deed
    model: str = "base"
    context: int = 16_384
    runtime_adapters: bool = True
    """Started with ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`` and ``--enable-lora``."""
    prompt_details: bool = True
    """Started with ``--enable-prompt-tokens-details``."""
    most_rank: int = 16
    seconds: float = 0.0
    """An answer's, however many are under way."""
    busy: int = 0
    """Requests that are turned away first."""
    adapters: dict[str, str] = field(default_factory=dict[str, str])
    under_way: int = 0
    most_under_way: int = 0
    answered: int = 0
    _blocks: set[int] = field(default_factory=set[int])

    def app(self) -> Starlette:
        """As an ASGI application."""
        routes = [
            Route("/health", self._health),
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
        ]
        if self.runtime_adapters:
            routes += [
                Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
            ]
        return Starlette(routes=routes, exception_handlers={404: _no_route})

    async def _health(self, _request: Request) -> Response:
        return Response()

    async def _models(self, _request: Request) -> Response:
        base = _card(self.model, f"/models/{self.model}", None, self.context)
        cards = [base, *(_card(name, path, self.model, None) for name, path in self.adapters.items())]
        return JSONResponse({"object": "list", "data": cards})

    async def _load(self, request: Request) -> Response:
        asked = await request.json()
        name, path = asked["lora_name"], asked["lora_path"]
        if not name or not path:
            return _fault("Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput", 400)
        if name in self.adapters:
            words = f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set"
            return _fault(f"{words} 'load_inplace' to True.", "InvalidUserInput", 400)
        config = Path(path) / "adapter_config.json"
        if not config.is_file():
            return _fault(f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError", 404)
        told = json.loads(config.read_text(encoding="utf-8"))
        if told.get("alora_invocation_tokens"):
            return _fault("vLLM does not support Activated LoRA (aLoRA).", "InternalServerError", 500)
        if told["r"] > self.most_rank:
            words = f"LoRA rank {told['r']} is greater than max_lora_rank {self.most_rank}."
            return _fault(words, "InternalServerError", 500)
        self.adapters[name] = path
        return Response(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if name not in self.adapters:
            return _fault(f"The lora adapter '{name}' cannot be found.", "NotFoundError", 404)
        del self.adapters[name]
        return Response(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _chat(self, request: Request) -> Response:
        asked = await request.json()
        if self.busy > 0:
            self.busy -= 1
            return _fault("The engine is busy; try again.", "ServiceUnavailableError", 503)
        model = asked["model"]
        if model != self.model and model not in self.adapters:
            return _fault(f"The model `{model}` does not exist.", "NotFoundError", 404, "model")
        prompt = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in asked["messages"])
        tokens = -(-len(prompt) // CHARACTERS)
        if tokens >= self.context:
            words = (
                f"This model's maximum context length is {self.context} tokens. However, your prompt contains at least"
                f" {self.context + 1} input tokens, which exceeds this limit even without any output tokens. Please"
                " reduce the length of the input prompt."
            )
            return _fault(words, "BadRequestError", 400, "input_tokens")
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.under_way -= 1
        self.answered += 1
        return JSONResponse(self._completion(asked, model, prompt, tokens))

    def _completion(self, asked: dict[str, Any], model: str, prompt: str, tokens: int) -> dict[str, Any]:
        text, unsafe = self.speak(prompt, model)
        words = re.findall(r"\s*\S+", text)[: asked["max_tokens"]]
        cut = len(words) == asked["max_tokens"]
        details = {
            "cached_tokens": self._cached(model, prompt),
            "created_cache_tokens": None,
            "multimodal_tokens": None,
        }
        return {
            "id": f"chatcmpl-{self.answered:032x}",
            "object": "chat.completion",
            "created": 1_796_000_000,
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "".join(words),
                        "refusal": None,
                        "annotations": None,
                        "audio": None,
                        "function_call": None,
                        "reasoning": None,
                    },
                    "logprobs": _logprobs(words, unsafe, asked["top_logprobs"]) if asked.get("logprobs") else None,
                    "finish_reason": "length" if cut else "stop",
                    "stop_reason": None,
                    "token_ids": None,
                    "routed_experts": None,
                }
            ],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {
                "prompt_tokens": tokens,
                "total_tokens": tokens + len(words) + 1,
                "completion_tokens": len(words) + 1,
                "prompt_tokens_details": details if self.prompt_details else None,
                "completion_tokens_details": None,
            },
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def _cached(self, model: str, prompt: str) -> int:
        """Tokens of the whole blocks from the beginning that were read before, by the same model or adapter."""
        size = BLOCK * CHARACTERS
        keys, key = list[int](), hash(model)
        for end in range(size, len(prompt), size):  # a block's key has those of all before it in it
            key = hash((key, prompt[end - size : end]))
            keys.append(key)
        known = next((at for at, one in enumerate(keys) if one not in self._blocks), len(keys))
        self._blocks.update(keys)
        return known * BLOCK


def _card(name: str, root: str, parent: str | None, context: int | None) -> dict[str, Any]:
    permission = {
        "id": f"modelperm-{name}",
        "object": "model_permission",
        "created": 1_796_000_000,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": 1_796_000_000,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": context,
        "permission": [permission],
    }


def _logprobs(words: list[str], unsafe: float, top: int) -> dict[str, Any]:
    """The likeliest first tokens with both labels among them, as their variants share the probability."""
    shares = {
        "unsafe": 0.97 * unsafe,
        " unsafe": 0.01 * unsafe,
        "safe": 0.97 * (1 - unsafe),
        "Safe": 0.01 * (1 - unsafe),
    }
    shares |= {f"word{n}": 0.005 / top for n in range(top)}
    likely = sorted(shares.items(), key=lambda one: -one[1])[:top]
    rows = [_token(token, share) for token, share in likely]
    first = next((row for row in rows if row["token"] == words[0]), _token(words[0], 0.001))
    rest = [_token(word, 0.999) | {"top_logprobs": [_token(word, 0.999)]} for word in words[1:]]
    return {"content": [first | {"top_logprobs": rows}, *rest]}


def _token(token: str, share: float) -> dict[str, Any]:
    return {"token": token, "logprob": max(math.log(share), -9999.0), "bytes": list(token.encode())}


def _fault(message: str, kind: str, status: int, parameter: str | None = None) -> Response:
    error = {"message": message, "type": kind, "param": parameter, "code": status}
    return JSONResponse({"error": error}, status)


async def _no_route(_request: Request, _fault_of_it: Exception) -> Response:
    return _fault("Not Found", "Not Found", 404)
