"""How long a verdict takes against the length of the trajectory: whole, incremental, and by a generated rationale.

All three run on the same base model in the same process. "Whole" reads a run of so many tokens from nothing and judges
it; "incremental" has read it already and judges one more step of about 200 tokens; "rationale" reads it with the whole
model and decodes an explanation of 300 tokens, as a guard does that writes before it judges (AgentDoG 1.5 decodes 305
to 493 tokens a check, arXiv:2605.29801, application 2).

    python benchmarks/judge_latency.py [--repeats 5] [--lengths 1024 2048 4096] [--json OUT]
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gelert.core.trajectory import Role, Step, ToolCall, Trajectory
from gelert.guard.card import default_card
from gelert.guard.guard import HeadGuard
from gelert.lm.model import load

RATIONALE_TOKENS = 300
STEP_TOKENS = 200


def words(count: int, salt: int) -> str:
    """About ``count`` tokens of log text; the salt varies the first token, so that no cache can fake a cold timing."""
    return " ".join(f"{(salt * 7919 + i) % 97} files checked in folder data{i % 53}" for i in range(count // 9))


def run_of(tokens: int, guard: HeadGuard, salt: int) -> Trajectory:
    """A run of about this many tokens: a task, then calls and results of about a step's length."""
    steps = [Step(Role.USER, f"{salt} Tidy the data folders and report what you find.")]
    read = 40
    while read < tokens:
        text = words(STEP_TOKENS, salt + len(steps))
        steps += [
            Step(Role.AGENT, calls=(ToolCall("shell", f'{{"cmd": "check {len(steps)}"}}'),)),
            Step(Role.TOOL, text),
        ]
        read += len(guard.model.encode(text)) + 16
    return Trajectory(tuple(steps))


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def whole(guard: HeadGuard, tokens: int, salt: int) -> float:
    run = run_of(tokens, guard, salt)
    return timed(lambda: guard.judge(run))


def incremental(guard: HeadGuard, tokens: int, salt: int) -> float:
    """One appended step of the agent and its result, and the verdict, after ``tokens`` tokens."""
    session = guard.session(Trajectory(()))
    for step in run_of(tokens, guard, salt).steps:
        session.append(step)
    session.verdict()
    call = Step(Role.AGENT, calls=(ToolCall("shell", '{"cmd": "check again"}'),))
    result = Step(Role.TOOL, words(STEP_TOKENS, salt + 1))

    def go_on() -> object:
        session.append(call)
        session.append(result)
        return session.verdict()

    return timed(go_on)


@torch.inference_mode()
def rationale(model: object, guard: HeadGuard, tokens: int, salt: int) -> float:
    """Prefill with the whole model, then decode an explanation greedily, keys and values kept."""
    from gelert.lm.model import LanguageModel

    assert isinstance(model, LanguageModel)
    ids = guard.model.encode("\n".join(s.text for s in run_of(tokens, guard, salt).steps))[:tokens]
    prompt = torch.tensor([ids])
    return timed(
        lambda: model.net.generate(  # pyright: ignore[reportCallIssue]
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=RATIONALE_TOKENS,
            min_new_tokens=RATIONALE_TOKENS,
            do_sample=False,
            pad_token_id=0,
        )
    )


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rationale-repeats", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    guard = HeadGuard.load(default_card())
    window = guard.card.window.model_copy(update={"tokens": 8000})
    wide = replace(guard, card=guard.card.model_copy(update={"window": window}))
    full = load(guard.card.model.name, dtype=guard.card.model.dtype)
    whole(guard, 600, 0)
    salt = 1
    table: dict[int, dict[str, dict[str, float]]] = {n: {} for n in options.lengths}
    kinds: dict[str, tuple[Callable[[int, int], float], int]] = {
        "whole": (lambda n, s: whole(guard, n, s), options.repeats),
        "incremental": (lambda n, s: incremental(guard, n, s), options.repeats),
        "incremental, one window": (lambda n, s: incremental(wide, n, s), options.repeats),
        "rationale": (lambda n, s: rationale(full, guard, n, s), options.rationale_repeats),
    }
    for kind, (measure, repeats) in kinds.items():
        found: dict[int, list[float]] = {n: [] for n in options.lengths}
        for _ in range(repeats):
            for n in options.lengths:  # lengths in turn, so that a drifting machine hits them alike
                salt += 1
                found[n].append(measure(n, salt))
        for n, seconds in found.items():
            table[n][kind] = summary(seconds)
            print(
                f"{kind:24} {n:5} tokens  " + "  ".join(f"{k} {v:.3f} s" for k, v in table[n][kind].items()), flush=True
            )
    least, most = min(options.lengths), max(options.lengths)
    ratios = {
        f"rationale / incremental at {most}": table[most]["rationale"]["median"] / table[most]["incremental"]["median"],
        **{
            f"{kind} at {most} / at {least}": table[most][kind]["median"] / table[least][kind]["median"]
            for kind in ("incremental", "incremental, one window")
        },
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(machine)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "seconds": table, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
