"""Tasks for verl: an agent loop that plays an episode token in, token out, and rewards it.

verl finds it by a file of agent loops, ``actor_rollout_ref.rollout.agent.agent_loop_config_path``; its rows are made by
``python -m gelert.forge.agent_verl``. ``examples/recipes/agent_verl.yaml`` says how all of it is started.

The model's tokens stay as they were generated. verl's own builder of context would let what a tool says spell control
tokens; here it is ordinary text, as everywhere in Gelert (``gelert.backends.local_chat.opening``).
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUntypedFunctionDecorator=false
# pyright: reportUntypedClassDecorator=false
# verl is an extra: where it is not installed, what it gives has no types.

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from gelert.core.errors import InputError, missing_extra
from gelert.worlds.bridges.carried import named
from gelert.worlds.bridges.verl_rows import LOOP
from gelert.worlds.episode import changed
from gelert.worlds.model_agent import Ending, Rules
from gelert.worlds.rewards import reward
from gelert.worlds.rollout import Rollout
from gelert.worlds.tasks import Beginning, begin
from gelert.worlds.toolcalls import Form

try:
    from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, register
    from verl.utils.profiler import simple_timer
    from verl.utils.rollout_trace import rollout_trace_op

    from gelert.lm.letters import Letters
except ModuleNotFoundError:
    raise missing_extra("gelert.worlds.bridges.verl_loop", "verl") from None

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PARTS = ("utility", "success", "checklist", "safe", "harmed", "refused")
"""Of the reward: what verl is told apart, as numbers."""


@register(LOOP)
class WorldLoop(AgentLoopBase):
    """Plays the episode of a row.

    Args:
        told: by verl.
        turns: messages of the model.
        malformed: unreadable messages in a row that end an episode.
        tokens: of one message.
        more: by verl, by name.
    """

    def __init__(self, *told: object, turns: int = 15, malformed: int = 2, tokens: int = 512, **more: object) -> None:
        super().__init__(*told, **more)
        self._rules = Rules(turns, malformed, tokens)

    @rollout_trace_op
    async def run(self, sampling_params: Mapping[str, Any], **row: object) -> AgentLoopOutput:
        """Play it.

        Args:
            sampling_params: of each message; ``max_tokens`` is set here.
            row: as ``verl_rows`` has made it; ``extra_info`` names the task.

        Raises:
            InputError: there is no such task, or the prompt is longer than the trainer leaves room for.
        """
        told, limits = cast("Mapping[str, Any]", row["extra_info"]), self.rollout_config
        letters = _letters(self.tokenizer, json.dumps(dict(self.apply_chat_template_kwargs)))
        beginning = _beginning(tuple(told["worlds"]), told["task"])
        rollout = Rollout(letters, Form(told["form"]), beginning, self._rules)
        if len(rollout.prompt) > limits.prompt_length:
            raise InputError(
                f"expected a prompt of at most {limits.prompt_length} tokens, got {len(rollout.prompt)} for"
                f" {told['task']!r}; raise data.max_prompt_length, or let data.filter_overlong_prompts drop it"
            )
        rollout.most = len(rollout.prompt) + limits.response_length
        metrics: dict[str, float] = {}
        likely, served = await self._play(rollout, rollout.most, sampling_params, metrics)
        return self._output(rollout, likely, served, metrics)

    async def _play(
        self, rollout: Rollout, room: int, sampling_params: Mapping[str, Any], metrics: dict[str, float]
    ) -> tuple[list[float] | None, dict[str, Any]]:
        """Let the model write its messages; gives the log-probability of each token, and what the server said apart."""
        request, likely, served = uuid4().hex, list[float](), dict[str, Any]()
        known = True
        while not rollout.over:
            context = rollout.context
            most = min(self._rules.tokens, room - len(context))
            with simple_timer("generate_sequences", metrics):
                said = await self.server_manager.generate(
                    request_id=request, prompt_ids=context, sampling_params={**sampling_params, "max_tokens": most}
                )
            _keep(served, said.extra_fields)
            if said.num_preempted is not None:
                metrics["num_preempted"] = metrics.get("num_preempted", 0) + said.num_preempted
            if said.stop_reason == "aborted":
                rollout.talk.end(Ending.FAILED)
                break
            with simple_timer("tool_calls", metrics):
                rollout.take(said.token_ids)
            known = known and said.log_probs is not None
            likely += said.log_probs or []
            likely += [0.0] * (len(rollout.completion) - len(likely))
        return (likely if known else None), served

    def _output(
        self, rollout: Rollout, likely: Sequence[float] | None, served: Mapping[str, Any], metrics: Mapping[str, float]
    ) -> AgentLoopOutput:
        most, talk = self.rollout_config.response_length, rollout.talk
        earned = reward(talk.episode)
        parts = {name: float(getattr(earned, name)) for name in PARTS}
        # What was not the model's doing is not learnt from.
        mask = [0] * len(rollout.completion) if talk.ending is Ending.FAILED else rollout.mask
        return AgentLoopOutput(
            prompt_ids=rollout.prompt,
            response_ids=rollout.completion[:most],
            response_mask=mask[:most],
            response_logprobs=None if likely is None else list(likely[:most]),
            reward_score=earned.total,
            num_turns=talk.turns + sum(one.role == "user" for one in talk.messages),
            metrics=dict(metrics),
            extra_fields={
                **served,
                "reward_extra_info": {**parts, "malformed": float(talk.malformed), "cut": float(rollout.cut)},
                "turn_scores": [],
                "tool_rewards": [],
                "task": talk.episode.beginning.task.name,
                "ending": str(talk.ending),
                "changes": changed(talk.episode),
            },
        )


def _keep(served: dict[str, Any], told: Mapping[str, Any]) -> None:
    """What a server says of a message: of an episode, the first is kept, and the last version of the weights."""
    for name, value in told.items():
        if name not in served or (name == "max_global_steps" and value is not None):
            served[name] = value


@lru_cache(maxsize=1)
def _letters(tokenizer: "PreTrainedTokenizerBase", options: str) -> Letters:
    """Of all rows of a worker, for each of which there is a loop; ``options`` of the chat template as JSON."""
    return Letters(tokenizer, tokenizer.name_or_path, json.loads(options))


@lru_cache(maxsize=4096)
def _beginning(worlds: tuple[str, ...], name: str) -> Beginning:
    return begin(named(worlds, name))
