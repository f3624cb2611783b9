"""TRL's ``GRPOTrainer`` with what it lacks for GDPO on diagnoses: groups that teach nothing are left out.

TRL's own ``multi_objective_aggregation="normalize_then_sum"`` normalises every reward within its group, sums them by
their weights and normalises over the batch (arXiv:2601.05242, as used by arXiv:2605.29801). A group stays if any reward
varies in it; the others would shrink the batch's spread and pull at the KL term, so their rewards are withheld (as
those of answers that nobody could score) and their tokens masked. They still count in the number of answers by which
the loss is divided: a batch with few groups that differ makes a small step.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.grpo_trainer import GRPOTrainer
from typing_extensions import override

from gelert.core import records

LOG, LOG_KIND = "log.jsonl", ("guard-rl-step", 1)
"""File of the steps' figures, and kind and version of its records."""

LOGGED = ("accuracy/", "over_labelled/", "in_form", "kept_groups", "kl", "loss", "grad_norm", "completions/", "step")
"""Which of the trainer's figures are kept; all its figures are in the checkpoints."""


class DiagnosisTrainer(GRPOTrainer):
    """``GRPOTrainer`` that tells rewards which answers were cut, and learns from the groups that differ."""

    @override
    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids_list: list[list[int]]
    ) -> Tensor:
        """Rewards of all processes [B, axes]; nan throughout a group where no reward varies."""
        ends = [*self.eos_token_ids, self._tokenizer.pad_token_id]
        rows = [
            {**row, "cut": not ids or ids[-1] not in ends} for row, ids in zip(inputs, completion_ids_list, strict=True)
        ]
        rewards: Tensor = super()._calculate_rewards(rows, prompts, completions, completion_ids_list)
        if not self._learning:
            return rewards
        kept = varied(rewards, cast("int", self.num_generations))
        self._metrics["train"]["kept_groups"].append(kept.float().mean().item())
        mine = slice(self.accelerator.process_index * len(prompts), (self.accelerator.process_index + 1) * len(prompts))
        self._kept_rows = kept[mine]
        return rewards.masked_fill(~kept[:, None], torch.nan)

    @override
    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self._learning:
            output["completion_mask"] = output["completion_mask"] * self._kept_rows[:, None]
        return output

    @property
    def _learning(self) -> bool:
        return cast("torch.nn.Module", self.model).training


def varied(rewards: Tensor, group: int) -> Tensor:
    """For each answer, whether any reward varies within its group; [B] from rewards [B, axes]."""
    grouped = rewards.view(-1, group, rewards.shape[1])
    return (grouped != grouped[:, :1]).flatten(1).any(1).repeat_interleave(group)


class StepLog(TrainerCallback):
    """Writes the figures of all steps to a folder after each; a run that is resumed keeps those of its checkpoint.

    Args:
        folder: of the run.
        tell: is told the number of each step that is done.
    """

    def __init__(self, folder: Path, tell: Callable[[int], None]) -> None:
        self._folder = folder
        self._tell = tell

    @override
    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_more: object) -> None:
        if state.is_world_process_zero and state.log_history and "loss" in state.log_history[-1]:
            rows = [kept(row) for row in state.log_history if "loss" in row]
            records.write(self._folder / LOG, *LOG_KIND, rows)
            self._tell(state.global_step)


def kept(row: dict[str, Any]) -> dict[str, object]:
    """The figures of a step that are kept; a group of answers that says nothing gives null."""
    return {name: value for name, value in row.items() if name.startswith(LOGGED)}
