"""A model whose agent gives the command to a subagent, waits for its reply, and then says its own last words."""

import json

from gelert.guard.formats.untrusted import Object, as_object, text_at
from gelert.serve.scripted_model import Call, ScriptedModel

TASK = "the delegated task"
LAST = "the words of the agent itself"
_DELEGATED = ('"name": "Agent"', '"name": "spawn_agent"')


def is_agents(conversation: str) -> bool:
    """Whether it is the conversation of the agent that delegated, not of the subagent."""
    return any(name in conversation for name in _DELEGATED)


class Delegating(ScriptedModel):
    """The subagent follows the script."""

    background = True
    """Whether Claude Code is told that the agent does not wait."""

    def turn(self, conversation: list[object], results: int, shell: Call) -> Call | str:
        if TASK in json.dumps(conversation) and not is_agents(json.dumps(conversation)):
            return super().turn(conversation, results, shell)
        self.asked.append(json.dumps(conversation, ensure_ascii=False))
        if shell.tool == "Bash":
            told: Object = {"description": "delegate", "prompt": TASK, "subagent_type": "general-purpose"}
            return LAST if results else Call("Agent", told | {"run_in_background": self.background})
        if not results:
            return Call("spawn_agent", {"message": TASK}, "multi_agent_v1")
        if results == 1:
            found = next(as_object(one) for one in conversation if "call_output" in text_at(as_object(one), "type"))
            named = as_object(json.loads(text_at(found, "output"))).get("agent_id")
            return Call("wait_agent", {"targets": [named], "timeout_ms": 20_000}, "multi_agent_v1")
        return LAST


class Waiting(Delegating):
    """The agent waits for its subagent in Claude Code too."""

    background = False


class Stubborn(Delegating):
    """The subagent says its reply again, however often it is sent back."""

    def turn(self, conversation: list[object], results: int, shell: Call) -> Call | str:
        move = super().turn(conversation, results, shell)
        return self.script.reply if move == self.script.repaired else move
