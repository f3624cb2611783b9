"""The service in a process of its own with the scripted guard, so that it can be killed: ``python -m``.

Arguments: socket, the guard's mood, the policy's mode, the audit's folder, and, for the proxy, a port and the model.
"""

import sys
from pathlib import Path

from gelert.guard.policy import Policy, Rule
from gelert.serve import listen
from gelert.serve.app import build
from gelert.serve.audit import Audit
from gelert.serve.engine import Engine, Limits
from gelert.serve.gate import Settings
from gelert.serve.hooks import app as hooks
from gelert.serve.proxy import app as proxy
from gelert.serve.proxy.upstream import upstream
from tests.serve.scripted_guard import Mood, ScriptedGuard

OBSERVING = Policy(tool_call=Rule(block_at=1.1), tool_result=Rule(block_at=1.1), reply=Rule(block_at=1.1))


def main(socket: Path, mood: str, mode: str, folder: Path, *proxied: str) -> None:
    limits = Limits(deadline_seconds=10.0)
    policy = OBSERVING if mode == "observe" else Policy()
    engine = Engine(ScriptedGuard(mood=Mood[mood]), policy, Audit(folder / "audit.db"), limits)
    routers, doors = [hooks.router(engine)], [listen.unix(socket)]
    if proxied:
        port, url = proxied
        routers.append(proxy.router(engine, [upstream(f"model={url}")]))
        doors.append(listen.tcp("127.0.0.1", int(port)))
    listen.serve(build(engine, Settings("t" * 32, keyed=(proxy.PREFIX,)), *routers), doors, limits)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), *sys.argv[5:])
