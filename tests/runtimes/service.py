"""The service in a process of its own with the scripted guard, so that it can be killed: ``python -m``."""

import sys
from pathlib import Path

from gelert.guard.policy import Policy, Rule
from gelert.serve import listen
from gelert.serve.app import build
from gelert.serve.audit import Audit
from gelert.serve.engine import Engine, Limits
from gelert.serve.gate import Settings
from gelert.serve.hooks.app import router
from tests.serve.scripted_guard import Mood, ScriptedGuard

OBSERVING = Policy(tool_call=Rule(block_at=1.1), tool_result=Rule(block_at=1.1), reply=Rule(block_at=1.1))


def main(socket: Path, mood: str, mode: str) -> None:
    limits = Limits(deadline_seconds=10.0)
    policy = OBSERVING if mode == "observe" else Policy()
    engine = Engine(ScriptedGuard(mood=Mood[mood]), policy, Audit(socket.with_name("audit.db")), limits)
    listen.serve(build(engine, Settings("t" * 32), router(engine)), [listen.unix(socket)], limits)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
