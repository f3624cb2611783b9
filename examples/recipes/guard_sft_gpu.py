"""Fine-tune a guard of 0.6B to 8B on one or many GPUs: TRL's SFTTrainer, accelerate, and Gelert's MemFT loss.

The prompts are those of the unified contract, so what comes out is judged with as any published checkpoint is:

    gelert data synthesise --n 4000 --out data/worlds
    accelerate launch examples/recipes/guard_sft_gpu.py --model Qwen/Qwen3-4B --data data/worlds --out guard-4b
    vllm serve Qwen/Qwen3-4B --enable-lora --max-lora-rank 64 --lora-modules guard=guard-4b
    gelert judge --guard agentdog-1.5-unified@http://127.0.0.1:8000/v1#guard run.jsonl

For models that do not fit one GPU, ask ``accelerate config`` for FSDP first; nothing here changes.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from gelert.core.taxonomy import builtin
from gelert.evals.benches import Labelled, load_labelled
from gelert.forge.guard_sft_examples import split
from gelert.guard.answer import SAFE, UNSAFE, segments
from gelert.guard.contracts import Contract
from gelert.guard.prompts.agentdog import render
from gelert.lm.objective import memft_loss
from gelert.lm.weights import Likelihood, OnlyThreshold

LEARNING_RATE, RANK, EPOCHS = 1e-4, 32, 3
"""The rate of arXiv:2605.29801 (1e-5) is for all weights; an adapter takes ten times that."""

RULES = {"nll": Likelihood(), "memft-ot": OnlyThreshold(when_empty="zero")}


def conversations(runs: Sequence[Labelled]) -> Iterator[dict[str, list[dict[str, str]]]]:
    """Prompt and completion of each run, as chat messages: the trainer applies the model's own template."""
    for run in runs:
        prompt = [
            {"role": message.role, "content": message.content}
            for message in render(Contract.UNIFIED_1_5, run.example.trajectory, builtin())
        ]
        verdict = UNSAFE + "".join(segments(run.gold.diagnosis, builtin())) if run.unsafe else SAFE
        yield {"prompt": prompt, "completion": [{"role": "assistant", "content": "Safety:" + verdict.rstrip()}]}


def dataset(tokenizer: PreTrainedTokenizerBase, runs: Sequence[Labelled], max_tokens: int) -> Dataset:
    """The conversations that fit: a trainer cuts the others at their end, which is the answer."""
    rows = list(conversations(runs))
    sizes = [
        len(tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], return_dict=False)) for row in rows
    ]
    return Dataset.from_list([row for row, size in zip(rows, sizes, strict=True) if size <= max_tokens])


def trainer(options: argparse.Namespace) -> SFTTrainer:
    """Ready to be run."""
    sides = split(load_labelled(options.data).labelled)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    arguments = SFTConfig(
        output_dir=str(options.out),
        learning_rate=options.learning_rate,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulate,
        gradient_checkpointing=not options.cpu,
        max_length=options.max_tokens,
        bf16=not options.cpu,
        use_cpu=options.cpu,
        completion_only_loss=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        logging_steps=10,
        report_to="none",
    )
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(options.model, dtype="float32" if options.cpu else "bfloat16"),
        args=arguments,
        train_dataset=dataset(tokenizer, sides.train, options.max_tokens),
        eval_dataset=dataset(tokenizer, sides.validation, options.max_tokens),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules="all-linear"),
        compute_loss_func=memft_loss(RULES[options.rule]),
    )


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen3-0.6B", help="hub id or folder")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="labelled runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--rule", choices=sorted(RULES), default="nll")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--rank", type=int, default=RANK)
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--batch", type=int, default=4, help="runs on a device at once")
    parser.add_argument("--accumulate", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=16_384, help="longer runs are left out")
    parser.add_argument("--cpu", action="store_true", help="for a try with a tiny model")
    return parser.parse_args(arguments)


def main() -> None:
    """Train and save the adapter."""
    options = parsed()
    made = trainer(options)
    made.train()
    made.save_model(str(options.out))


if __name__ == "__main__":
    main()
