"""The same grid of adapters by three ways in one run: one at a time with PEFT, as the reference does it, with the bed.

- ``naive``: Hugging Face and PEFT, one cell at a time, all blocks at every step, ``generate`` to see what is recalled;
- ``reference``: the same with the second forward pass without the adapter at every step, and the base model's text
  decoded too, as the published code does (its load of the model for every cell is left out, in its favour);
- ``ours``: lower blocks once, cells of a length in one batch, the head on supervised tokens, one pass as certificate;
- ``ours, until certified``: the same, cells leaving when all their tokens have p > 1/2.

All learn the same random text with LoRA on one block's ``down_proj``, from the same initial factors, by AdamW at 1e-2
falling to zero. Each way runs in a process of its own, for its peak of memory. The certified cells of the last way are
compared with those that ``generate`` finds recalled by the others at the same number of steps.

    python benchmarks/memory_sweep.py [--steps 20] [--ranks 1 2 4 8] [--lengths 32 64 128] [--block 20] [--json OUT]
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3Config

from gelert.lm import bank, peft
from gelert.lm.bank import Bank, Spec
from gelert.lm.certificate import certify
from gelert.lm.loop import Config, Task, Training
from gelert.lm.model import Dtype, LanguageModel, load, untrained
from gelert.lm.objective import Example
from gelert.lm.trunk import Trunk
from gelert.memory.corpora import passage, random_tokens

Theirs = Any
"""A model of PEFT's, which gives its methods no types."""

BLOCK = 20
RATE = 1e-2


@dataclass(frozen=True)
class Asked:
    """What every way does."""

    model: str
    """A name for ``gelert.lm.model.load``, or one of ``SHAPES``: random weights of that shape."""
    ranks: list[int]
    lengths: list[int]
    steps: int
    block: int = BLOCK
    device: str = "cpu"
    dtype: Dtype = "float32"


def _qwen3(width: int, layers: int, heads: int, inner: int, *, tied: bool) -> Qwen3Config:
    return Qwen3Config(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=inner,
        vocab_size=151_936,
        max_position_embeddings=40_960,
        tie_word_embeddings=tied,
    )


SHAPES = {
    "shape:qwen3-0.6b": lambda: _qwen3(1024, 28, 16, 3072, tied=True),
    "shape:qwen3-8b": lambda: _qwen3(4096, 36, 32, 12_288, tied=False),
}


def base(asked: Asked) -> LanguageModel:
    if asked.model in SHAPES:
        return untrained(SHAPES[asked.model](), asked.model, dtype=asked.dtype, device=asked.device)
    return load(asked.model, dtype=asked.dtype, device=asked.device)


@dataclass(frozen=True)
class Done:
    """One cell by one way."""

    length: int
    rank: int
    loss: float
    recalled: bool
    seconds: float
    """Training and scoring; of cells in one batch, an equal share."""


def adapters(model: LanguageModel, ranks: list[int], block: int) -> Bank:
    specs = [Spec(rank, alpha=rank, seed=rank) for rank in ranks]
    return bank.new(model, specs, blocks_from=block, blocks_to=block + 1, targets=["down_proj"])


def text(model: LanguageModel, length: int) -> Example:
    """Random tokens; of a model without a tokenizer for all of its vocabulary, after some others."""
    if model.name not in SHAPES:
        return passage(model, random_tokens(model, length))
    drawn = torch.randint(300, model.vocab, (8 + length,), generator=torch.Generator().manual_seed(0))
    return Example(tuple(drawn.tolist()), (0.0,) * 8 + (1.0,) * length)


def ours(asked: Asked, until: float | None = None) -> list[Done]:
    model = base(asked)
    trunk = Trunk(model, asked.block)
    found: list[Done] = []
    for length in asked.lengths:
        started = time.perf_counter()
        example, made = text(model, length), adapters(model, asked.ranks, asked.block)
        config = Config(asked.steps, RATE, warmup_steps=0, decay="linear", examples_per_step=1, until=until)
        training = Training(trunk, made, [Task([example], config)] * len(asked.ranks))
        for _step in training.run():
            pass
        seen = certify(trunk, [example] * len(asked.ranks), made, range(len(asked.ranks)), prefill=training.prefill)
        share = (time.perf_counter() - started) / len(asked.ranks)
        found += [
            Done(length, rank, one.loss, one.recalled, share) for rank, one in zip(asked.ranks, seen, strict=True)
        ]
    return found


def ours_certified(asked: Asked) -> list[Done]:
    return ours(asked, until=0.5)


def naive(asked: Asked, *, second: bool = False) -> list[Done]:
    from peft import PeftModel

    warnings.simplefilter("ignore")
    found: list[Done] = []
    for length in asked.lengths:
        for number, rank in enumerate(asked.ranks):
            model = base(asked)  # not timed: only the adapter is new for each cell
            example = text(model, length)
            with tempfile.TemporaryDirectory() as folder:
                peft.save(model, adapters(model, asked.ranks, asked.block), number, Path(folder))
                theirs: Any = PeftModel.from_pretrained(model.net, folder, is_trainable=True)
            started = time.perf_counter()
            ids = torch.tensor([example.ids], device=asked.device)
            labels = ids.clone()
            labels[:, : example.supervised[0]] = -100
            train(theirs, ids, labels, asked.steps, second=second)
            with torch.no_grad():
                loss = float(theirs(input_ids=ids, labels=labels).loss)
            recalled = generates(theirs, ids, example.supervised[0])
            if second:
                with theirs.disable_adapter():
                    generates(theirs, ids, example.supervised[0])
            found.append(Done(length, rank, loss, recalled, time.perf_counter() - started))
    return found


def reference(asked: Asked) -> list[Done]:
    return naive(asked, second=True)


def train(theirs: Theirs, ids: Tensor, labels: Tensor, steps: int, *, second: bool) -> None:
    factors = [weight for weight in theirs.parameters() if weight.requires_grad]
    adam = torch.optim.AdamW(factors, lr=RATE, weight_decay=0.0)
    falls = torch.optim.lr_scheduler.LambdaLR(adam, lambda done: 1 - done / steps)
    theirs.train()
    for _ in range(steps):
        if second:
            with torch.no_grad(), theirs.disable_adapter():
                theirs(input_ids=ids, labels=labels)
        loss = theirs(input_ids=ids, labels=labels).loss
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(factors, 1.0)
        adam.step()
        falls.step()
    theirs.eval()


def generates(theirs: Theirs, ids: Tensor, start: int) -> bool:
    prompt = ids[:, :start]
    with torch.no_grad():
        found = theirs.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=ids.shape[1] - start,
            do_sample=False,
            pad_token_id=0,
        )
    return found.shape == ids.shape and bool((found == ids).all())


WAYS: dict[str, Callable[[Asked], list[Done]]] = {
    "naive": naive,
    "reference": reference,
    "ours": ours,
    "ours, until certified": ours_certified,
}


def _child(way: str, asked: Asked, threads: int, pipe: Connection) -> None:
    torch.set_num_threads(threads)
    found = WAYS[way](asked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if asked.device != "cpu":
        peak = torch.cuda.max_memory_allocated() / 2**20
    pipe.send((found, peak))


def run(way: str, asked: Asked) -> tuple[list[Done], float]:
    """The cells of a way, and the most memory of its process or of its GPU, MiB."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(way, asked, torch.get_num_threads(), there))
    child.start()
    there.close()
    try:
        found = here.recv()
    except EOFError:
        raise SystemExit(f"{way}: the process ended without a result") from None
    child.join()
    return found


def parser(doc: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8])
    made.add_argument("--lengths", type=int, nargs="+", default=[32, 64, 128])
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    made.add_argument("--json", type=Path)
    return made


def measure(asked: Asked, ways: list[str], out: Path | None) -> None:
    """Run the ways, print the ratios, and keep every cell."""
    results: dict[str, tuple[list[Done], float]] = {}
    for way in ways:
        results[way] = run(way, asked)
        print(f"{way:24} {sum(one.seconds for one in results[way][0]):8.1f} s, {results[way][1]:6.0f} MiB", flush=True)
    report(results, asked)
    if out:
        kept = {way: {"cells": [asdict(one) for one in cells], "MiB": peak} for way, (cells, peak) in results.items()}
        out.write_text(json.dumps({"asked": asdict(asked), "ways": kept}, indent=2) + "\n")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", default="smollm2-135m")
    arguments.add_argument("--block", type=int, default=BLOCK, help="which carries the adapters, counted from 0")
    options = arguments.parse_args()
    asked = Asked(options.model, options.ranks, options.lengths, options.steps, options.block)
    measure(asked, options.ways, options.json)


def report(results: dict[str, tuple[list[Done], float]], asked: Asked) -> None:
    """Ratios by length, and whether all ways end at the same losses and recall."""
    bases = [way for way in ("naive", "reference") if way in results]
    for way in [way for way in results if way.startswith("ours")]:
        for base in bases:
            for name, lengths in [("all", asked.lengths), ("up to 64", [n for n in asked.lengths if n <= 64])]:
                ratio = _seconds(results[base][0], lengths) / _seconds(results[way][0], lengths) if lengths else 0.0
                print(f"{base} / {way}, lengths {name}: {ratio:.2f}")
            pairs = list(zip(results[base][0], results[way][0], strict=True))
            worst = max(abs(a.loss - b.loss) / a.loss for a, b in pairs)
            middle = statistics.median(abs(a.loss - b.loss) / a.loss for a, b in pairs)
            same = sum(a.recalled == b.recalled for a, b in pairs)
            print(f"  losses differ by {100 * middle:.2f} % (worst {100 * worst:.2f})")
            print(f"  recall agrees in {same} of {len(pairs)} cells")
    where = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{where}, {asked.steps} steps a cell")


def _seconds(cells: list[Done], lengths: list[int]) -> float:
    return sum(one.seconds for one in cells if one.length in lengths)


if __name__ == "__main__":
    main()
