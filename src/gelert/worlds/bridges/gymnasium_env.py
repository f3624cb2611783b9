"""Tasks as a Gymnasium environment: an action is one message of a model, an observation what it is told next.

::

    env = GymWorlds(tasks)
    observation, info = env.reset(seed=7)
    observation, reward, terminated, truncated, info = env.step('{"name": "read_mail", "parameters": {"mail": "m3"}}')

A message calls tools, in a form of ``gelert.worlds.toolcalls``, or is the answer to the user, which ends the episode.
``gymnasium.make`` copies what it is given, and tasks cannot be copied: register a function that makes the environment,
``gymnasium.register("mail", entry_point=lambda **more: GymWorlds(tasks, **more))``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from gelert.core.errors import InputError, missing_extra
from gelert.core.seeds import stream
from gelert.worlds.episode import LONGEST_RESULT, MOST_CALLS, Episode
from gelert.worlds.rewards import reward
from gelert.worlds.tasks import Task, begin
from gelert.worlds.toolcalls import LONGEST_MESSAGE, Form, parse, result, system

try:
    import gymnasium
    from gymnasium import spaces
    from gymnasium.error import ResetNeeded
except ModuleNotFoundError:
    raise missing_extra("gelert.worlds.bridges.gymnasium_env", "gymnasium") from None

LONGEST_TOLD = 2 * MOST_CALLS * LONGEST_RESULT
"""Characters of an observation's text: the results of all calls in one message, escaped."""


class AnyText(spaces.Text):
    """Texts of any characters; what is drawn from it holds letters and digits."""

    def contains(self, x: object) -> bool:
        """Whether ``x`` is a text that is not too long."""
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length


class GymWorlds(gymnasium.Env[dict[str, str], str]):
    """Some tasks, one episode at a time.

    An observation has two texts: ``system`` says the policy and the tools and stays the same; ``user`` is the next
    message to the agent: the request at first, then the results of its calls. The reward comes with the last step;
    before that it is 0. Its parts are then in ``info``.

    Args:
        tasks: of any families; each reset draws one of them.
        form: of the messages.
        turns: messages of an agent, after which an episode is truncated.
        seed: of the draw, until a reset brings another.

    Raises:
        InputError: there is no task, or no turn.
    """

    def __init__(self, tasks: Sequence[Task], *, form: Form = Form.LLAMA3, turns: int = 15, seed: int = 0) -> None:
        if not tasks or turns < 1:
            raise InputError(f"expected at least one task and one turn, got {len(tasks)} and {turns}")
        self._tasks = {task.name: task for task in tasks}
        self._form, self._turns = form, turns
        self._random = stream(seed, "gymnasium")
        self.action_space = AnyText(LONGEST_MESSAGE, min_length=0)
        told = AnyText(LONGEST_TOLD, min_length=0)
        self.observation_space = cast("spaces.Space[dict[str, str]]", spaces.Dict({"system": told, "user": told}))
        self.episode: Episode | None = None
        """Under way, or the last one."""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: begins the draw of tasks anew.
            options: ``task``: the name of the task, which is then not drawn.

        Raises:
            InputError: an option is none, or names none of the tasks.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._random = stream(seed, "gymnasium")
        options = options or {}
        name = options["task"] if "task" in options else self._random.choice(list(self._tasks))
        if set(options) - {"task"} or not isinstance(name, str) or name not in self._tasks:
            raise InputError(f"expected the option task, with the name of one of the tasks, got {dict(options)!r}")
        self.episode = Episode(begin(self._tasks[name]))
        self._left = self._turns
        return self._observation(self.episode, self.episode.beginning.goal), {"task": name}

    def step(self, action: str) -> tuple[dict[str, str], float, bool, bool, dict[str, Any]]:
        """Hear a message of the agent.

        Args:
            action: calls, or the answer; of a message that cannot be read the agent is told why.

        Raises:
            ResetNeeded: no episode is under way.
        """
        episode = self.episode
        if episode is None or episode.finished:
            raise ResetNeeded("expected a reset before this step, for no episode is under way")
        said = parse(self._form, action, episode.beginning.tools)
        told = f"Your last message: {said.malformed}" if said.malformed else ""
        if said.calls:
            told = "\n".join(
                result(self._form, one.name, episode.call(one.name, one.arguments, said.text if at == 0 else ""))
                for at, one in enumerate(said.calls)
            )
        self._left -= 1
        terminated = not (said.calls or said.malformed)
        truncated = not terminated and (self._left == 0 or len(episode.calls) == MOST_CALLS)
        observation = self._observation(episode, told)
        if not (terminated or truncated):
            return observation, 0.0, False, False, {}
        episode.finish(said.text if terminated else "")
        earned = reward(episode)
        return observation, earned.total, terminated, truncated, asdict(earned)

    def _observation(self, episode: Episode, told: str) -> dict[str, str]:
        beginning = episode.beginning
        policy = beginning.task.family.policy
        return {"system": "\n\n".join(filter(None, (policy, system(self._form, beginning.tools)))), "user": told}
