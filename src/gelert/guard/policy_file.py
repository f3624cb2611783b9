"""A policy out of a TOML file: how each surface treats a verdict, by setting or project if need be, and rules on calls.

::

    [tool_call]
    block_at = 0.8            # risk; without it, what the guard itself calls unsafe is blocked
    ask_at = 0.4
    on_failure = "block"      # or "ask", "allow": what no verdict means
    [tool_result]
    mode = "observe"          # everything passes and is on record; "enforce" is the default
    [setting.codex.tool_call]
    block_at = 0.7            # where the agent runs in Codex
    [[rule]]
    when = "untrusted value -> [send_mail, exec]"
    then = "block"            # or "ask"
    [[project]]
    path = "/home/me/site"    # the agent works in this folder or below it
    allow = ["read", "ls", "mcp__notes__*"]   # calls of these pass there, whatever their risk
    [project.tool_call]       # of the project above
    block_at = 0.9

A project's sections outrank those of the settings, and the innermost project's all others; what an outer one allows
is allowed in the inner ones too. To be allowed frees a call from the guard's risk and from nothing else: a rule holds
all the same, for rules can only tighten, and a verdict that is missing stays so. Of several calls at once each must be
allowed.

Which project it is nobody says but the operator, here, and the runtime, with its question. Paths are compared part by
part as they are written, without following links; one that is relative or has ``..`` in it is in no project. A runtime
that tells where its shell stands, and not where it was started, lets its agent choose among the projects.

A running service reads the file again when it changes. A file that does not validate changes nothing, and says so.
"""

import logging
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from gelert.core.decision import Allow, Ask, Block, Decision, strictest
from gelert.core.errors import InputError
from gelert.core.trajectory import Setting, Trajectory
from gelert.core.verdict import Unreadable, Verdict
from gelert.guard.flow import Flow, flow, questioned
from gelert.guard.policy import Policy, Surface, decide
from gelert.guard.policy_sections import PolicySections, RuleSection, folder

MOST_BYTES = 1 << 20
"""Of a policy file."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallRule:
    """A rule on calls, compiled."""

    flow: Flow
    otherwise: Ask | Block
    """When it is broken."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a decision is asked about."""

    surface: Surface
    trajectory: Trajectory
    project: str = ""
    """Path of the folder that the agent works in, as its runtime says; empty if that is not known."""


class Scope:
    """What holds in one folder and below it.

    Args:
        sections: of the file.
        place: the folder; None for all that no project's folder holds.
    """

    def __init__(self, sections: PolicySections, place: PurePosixPath | None = None) -> None:
        self._treatments = {
            (setting, surface): sections.treatment(setting, surface, place)
            for setting in Setting
            for surface in Surface
        }
        self._policies = {
            setting: Policy(*(self._treatments[setting, surface].rule for surface in Surface)) for setting in Setting
        }
        self._allowed = sections.allowed(place)

    def observes(self, question: Question) -> bool:
        """Whether everything passes there and is only written down."""
        return self._treatments[question.trajectory.setting, question.surface].observe

    def decide(self, verdict: Verdict, question: Question) -> Decision:
        """The decision by risk alone, from which calls of the allowed tools are free."""
        found = decide(verdict, question.surface, self._policies[question.trajectory.setting])
        if isinstance(verdict, Unreadable) or question.surface is not Surface.TOOL_CALL:
            return found
        calls = questioned(question.trajectory)
        return Allow() if calls and all(call.name in self._allowed for call in calls) else found


class CompiledPolicy:
    """A policy that was validated; decides as ``gelert.guard.policy`` does, and then as strictly as its rules say.

    Args:
        sections: of the file.
    """

    def __init__(self, sections: PolicySections) -> None:
        self.sections = sections
        self._everywhere = Scope(sections)
        places = sorted((one.folder for one in sections.project), key=lambda place: len(place.parts), reverse=True)
        self._projects = {place: Scope(sections, place) for place in places}
        self._rules = [_compiled(rule) for rule in sections.rule]

    def decide(self, verdict: Verdict, question: Question) -> Decision:
        """The decision; where a surface is observed, everything passes."""
        scope = self._scope(folder(question.project))
        found = scope.decide(verdict, question)
        if scope.observes(question):
            return Allow(found.degraded)
        if question.surface is not Surface.TOOL_CALL:
            return found
        broken = [rule.otherwise for rule in self._rules if rule.flow.broken(question.trajectory)]
        return strictest(found, *(replace(one, degraded=found.degraded) for one in broken))

    def _scope(self, place: PurePosixPath | None) -> Scope:
        """That of the innermost project."""
        within = (scope for project, scope in self._projects.items() if place and place.is_relative_to(project))
        return next(within, self._everywhere)


class PolicyFile:
    """The policy of a file that may change while it is used.

    Args:
        path: of the file.

    Raises:
        InputError: the file is not a policy when it is first read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fault = ""
        self._stamp = _stamp(path)
        self._policy = read_policy(path)

    @property
    def fault(self) -> str:
        """Why the file as it stands now is not what is followed; empty if it is."""
        self._follow()
        return self._fault

    def decide(self, verdict: Verdict, question: Question) -> Decision:
        """The decision under the latest policy that was sound."""
        self._follow()
        return self._policy.decide(verdict, question)

    def _follow(self) -> None:
        stamp = _stamp(self.path)
        if stamp != self._stamp:
            self._stamp = stamp
            self._reload()

    def _reload(self) -> None:
        try:
            self._policy = read_policy(self.path)
        except InputError as fault:
            self._fault = str(fault)
            _LOG.error("the policy stays as it was, because its file changed to something else: %s", fault)
        else:
            self._fault = ""
            _LOG.warning("the policy was read anew from %s", self.path)


def read_policy(path: Path) -> CompiledPolicy:
    """The policy of a file.

    Raises:
        InputError: there is none, or it is not a policy; the message names every fault.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise InputError(f"expected a policy of at most {MOST_BYTES} bytes, got more ({path})")
        return CompiledPolicy(PolicySections.model_validate(tomllib.loads(raw.decode())))
    except OSError as fault:
        raise InputError(f"expected a policy file, got {fault.strerror} ({path})") from None
    except ValidationError as fault:
        faults = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in fault.errors(include_url=False)
        )
        raise InputError(f"expected a policy, got {faults} ({path})") from None
    except (ValueError, RecursionError) as fault:
        raise InputError(f"expected TOML in UTF-8, got {fault} ({path})") from None


def _compiled(rule: RuleSection) -> CallRule:
    reason = f"the policy's rule {rule.when!r}"
    return CallRule(flow(rule.when), Block(reason) if rule.then == "block" else Ask(reason))


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes whenever the file does; empty if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)
