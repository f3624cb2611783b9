"""What the HTTP backend and the adapter commands make of vLLM 0.33.0's answers, from a faithful scripted server."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gelert.backends.base import Answer, Failure, FailureKind, Message, Reply, Request, in_order
from gelert.backends.http import Endpoint, HttpBackend
from gelert.backends.served import Served, load, served, unload
from gelert.cli.model import command
from gelert.core.errors import BackendError, InputError
from tests.scripted_vllm import ScriptedVllm
from tests.serve.proxy.wire import listening

LABELS = ("safe", "unsafe")


def question(text: str) -> Request:
    return Request((Message("user", text),), max_tokens=8, labels=LABELS)


def asked(server: ScriptedVllm, *texts: str, model: str = "base", at_once: int = 8) -> list[Reply]:
    with listening(server.app()) as port:
        endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", model, max_concurrency=at_once)
        with HttpBackend(endpoint, api_key="", pause=lambda _: None) as backend:
            return list(in_order(backend.ask, map(question, texts), backend.concurrency))


def test_the_verdict_s_probability_is_read_from_the_first_token_with_all_its_spellings() -> None:
    (answer,) = asked(ScriptedVllm(), "rm -r /data")
    assert isinstance(answer, Answer)
    assert answer.text == "unsafe"
    assert answer.label_logprobs is not None
    seen = dict(answer.label_logprobs)
    assert math.exp(seen["unsafe"]) == pytest.approx(0.98 * 0.9)
    assert math.exp(seen["safe"]) == pytest.approx(0.98 * 0.1)


def test_what_the_prefix_cache_held_is_counted() -> None:
    answers = asked(ScriptedVllm(), "word " * 100 + "a", "word " * 100 + "b", at_once=1)
    first, second = (one for one in answers if isinstance(one, Answer))
    assert first.cached_tokens == 0
    assert second.prompt_tokens is not None
    assert second.cached_tokens is not None
    assert 0 <= second.prompt_tokens - second.cached_tokens <= 32


def test_a_server_that_does_not_tell_of_its_cache_is_not_guessed_about() -> None:
    (answer,) = asked(ScriptedVllm(prompt_details=False), "x")
    assert isinstance(answer, Answer)
    assert answer.cached_tokens is None
    assert answer.prompt_tokens


def test_a_prompt_beyond_the_context_is_told_apart() -> None:
    (failure,) = asked(ScriptedVllm(context=64), "word " * 100)
    assert isinstance(failure, Failure)
    assert failure.kind == FailureKind.TOO_LONG


def test_a_model_that_is_not_served_is_named_with_the_command_that_lists_those_that_are() -> None:
    (failure,) = asked(ScriptedVllm(), "x", model="absent")
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.retryable) == (FailureKind.STATUS, False)
    assert "'absent'" in failure.reason
    assert "gelert model served http://127.0.0.1" in failure.reason


def test_a_busy_engine_is_asked_again() -> None:
    (answer,) = asked(ScriptedVllm(busy=2), "x")
    assert isinstance(answer, Answer)


def test_so_many_requests_are_in_flight_and_no_more() -> None:
    server = ScriptedVllm(seconds=0.05)
    answers = asked(server, *(f"{n} rm -r" if n % 3 else f"{n}" for n in range(60)), at_once=12)
    assert [one.text for one in answers if isinstance(one, Answer)] == [
        "unsafe" if n % 3 else "safe" for n in range(60)
    ]
    assert 3 < server.most_under_way <= 12


def adapter(folder: Path, **more: object) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], **more}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(command, list(map(str, words)), catch_exceptions=False)


def test_an_adapter_is_loaded_by_name_listed_asked_and_unloaded(tmp_path: Path) -> None:
    place = adapter(tmp_path / "contrary")
    with listening(ScriptedVllm().app()) as port:
        url = f"http://127.0.0.1:{port}/v1"
        assert run("load", url, "contrary", place).output.startswith("loaded contrary")
        assert served(url) == [
            Served("base", None, "/models/base", 16_384),
            Served("contrary", "base", str(place), None),
        ]
        assert "contrary  adapter of base" in run("served", url).output
        assert json.loads(run("served", url, "--json").output)["models"][0]["context"] == 16_384
        with HttpBackend(Endpoint(url, "contrary"), api_key="") as backend:
            said = backend.ask(question("rm -r /data"))
            assert isinstance(said, Answer)
            assert said.text == "safe"
            assert run("unload", url, "contrary").output == "unloaded contrary\n"
            assert isinstance(backend.ask(question("rm -r /data")), Failure)


def test_a_server_that_does_not_allow_adapters_at_run_time_is_said_to_with_what_to_start_it_with(
    tmp_path: Path,
) -> None:
    with listening(ScriptedVllm(runtime_adapters=False).app()) as port:
        url = f"http://127.0.0.1:{port}/v1"
        for change in (lambda: load(url, "a", str(adapter(tmp_path / "a"))), lambda: unload(url, "a")):
            with pytest.raises(BackendError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
                change()


def test_what_the_server_does_not_take_is_told_in_its_words(tmp_path: Path) -> None:
    with listening(ScriptedVllm().app()) as port:
        url = f"http://127.0.0.1:{port}/v1"
        load(url, "a", str(adapter(tmp_path / "a")))
        faults = {
            "already been loaded": lambda: load(url, "a", str(tmp_path / "a")),
            "rank 64 is greater than max_lora_rank 16": lambda: load(url, "b", str(adapter(tmp_path / "b", r=64))),
            "does not support Activated LoRA": lambda: load(
                url, "c", str(adapter(tmp_path / "c", alora_invocation_tokens=[1, 2]))
            ),
            "404: Loading lora d failed: No adapter found for /nowhere/here": lambda: load(url, "d", "/nowhere/here"),
            "404: The lora adapter 'e' cannot be found": lambda: unload(url, "e"),
        }
        for words, change in faults.items():
            with pytest.raises(BackendError) as caught:
                change()
            assert words in str(caught.value)


def test_a_folder_here_that_holds_no_adapter_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"adapter_config\.json"):
        load("http://127.0.0.1:9/v1", "a", str(tmp_path))


def test_a_server_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(BackendError, match="is it running"):
        served("http://127.0.0.1:9/v1")
