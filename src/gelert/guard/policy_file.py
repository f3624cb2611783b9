"""A policy out of a TOML file: how each surface treats a verdict, by setting if need be, and rules on calls.

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

A running service reads the file again when it changes. A file that does not validate changes nothing, and says so.
"""

import logging
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gelert.core.decision import Allow, Ask, Block, Decision, strictest
from gelert.core.errors import InputError
from gelert.core.trajectory import Setting, Trajectory
from gelert.core.verdict import Verdict
from gelert.guard.flow import Flow, flow
from gelert.guard.policy import OnFailure, Policy, Rule, Surface, decide

MOST_BYTES = 1 << 20
"""Of a policy file."""

_LOG = logging.getLogger(__name__)
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)

Risk = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class SurfaceSection(BaseModel):
    """What is said of one surface; what is not said stays as it is."""

    model_config = _STRICT
    block_at: Risk | None = None
    ask_at: Risk | None = None
    on_failure: Literal["block", "ask", "allow"] | None = None
    mode: Literal["enforce", "observe"] | None = None


class Surfaces(BaseModel):
    """A section for each surface."""

    model_config = _STRICT
    tool_call: SurfaceSection = SurfaceSection()
    tool_result: SurfaceSection = SurfaceSection()
    reply: SurfaceSection = SurfaceSection()

    def section(self, surface: Surface) -> SurfaceSection:
        """The section of one surface."""
        match surface:
            case Surface.TOOL_CALL:
                return self.tool_call
            case Surface.TOOL_RESULT:
                return self.tool_result
            case Surface.REPLY:
                return self.reply


class RuleSection(BaseModel):
    """One rule on calls."""

    model_config = _STRICT
    when: str
    then: Literal["block", "ask"] = "block"

    @field_validator("when")
    @classmethod
    def _is_a_rule(cls, when: str) -> str:
        try:
            flow(when)
        except InputError as fault:
            raise ValueError(str(fault)) from None
        return when


class PolicySections(Surfaces):
    """A whole file."""

    setting: dict[Literal["general", "openclaw", "codex"], Surfaces] = {}
    rule: Annotated[list[RuleSection], Field(max_length=256)] = []

    @model_validator(mode="after")
    def _asks_before_it_blocks(self) -> "PolicySections":
        for setting in Setting:
            for surface in Surface:
                rule = self.treatment(setting, surface).rule
                if rule.block_at is not None and rule.ask_at is not None and rule.ask_at >= rule.block_at:
                    raise ValueError(
                        f"expected ask_at below block_at on {surface.value} in {setting.value}, "
                        f"got {rule.ask_at:g} and {rule.block_at:g}: nobody would be asked"
                    )
        return self

    def treatment(self, setting: Setting, surface: Surface) -> "Treatment":
        """What holds on a surface: the default, then the file, then the setting's own section."""
        found = Treatment(Policy().rule(surface))
        for surfaces in (self, self.setting.get(setting.value)):
            if surfaces:
                found = found.under(surfaces.section(surface))
        return found


@dataclass(frozen=True, slots=True)
class Treatment:
    """How one surface is treated in one setting."""

    rule: Rule
    observe: bool = False
    """Whether everything passes, and the verdict is only written down."""

    def under(self, section: SurfaceSection) -> "Treatment":
        """The same with what a section says."""
        rule = replace(
            self.rule,
            block_at=self.rule.block_at if section.block_at is None else section.block_at,
            ask_at=self.rule.ask_at if section.ask_at is None else section.ask_at,
            on_failure=OnFailure(section.on_failure) if section.on_failure else self.rule.on_failure,
        )
        return Treatment(rule, self.observe if section.mode is None else section.mode == "observe")


@dataclass(frozen=True, slots=True)
class CallRule:
    """A rule on calls, compiled."""

    flow: Flow
    otherwise: Ask | Block
    """When it is broken."""


class CompiledPolicy:
    """A policy that was validated; decides as ``gelert.guard.policy`` does, and then as strictly as its rules say.

    Args:
        sections: of the file.
    """

    def __init__(self, sections: PolicySections) -> None:
        self.sections = sections
        self._treatments = {
            (setting, surface): sections.treatment(setting, surface) for setting in Setting for surface in Surface
        }
        self._policies = {
            setting: Policy(*(self._treatments[setting, surface].rule for surface in Surface)) for setting in Setting
        }
        self._rules = [_compiled(rule) for rule in sections.rule]

    def decide(self, verdict: Verdict, surface: Surface, trajectory: Trajectory) -> Decision:
        """The decision; where a surface is observed, everything passes."""
        found = decide(verdict, surface, self._policies[trajectory.setting])
        if self._treatments[trajectory.setting, surface].observe:
            return Allow(found.degraded)
        if surface is not Surface.TOOL_CALL:
            return found
        broken = [rule.otherwise for rule in self._rules if rule.flow.broken(trajectory)]
        return strictest(found, *(replace(one, degraded=found.degraded) for one in broken))


class PolicyFile:
    """The policy of a file that may change while it is used.

    Args:
        path: of the file.

    Raises:
        InputError: the file is not a policy when it is first read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = ""
        """Why the file as it stands now is not what is followed; empty if it is."""
        self._stamp = _stamp(path)
        self.policy = read_policy(path)

    def decide(self, verdict: Verdict, surface: Surface, trajectory: Trajectory) -> Decision:
        """The decision under the latest policy that was sound."""
        stamp = _stamp(self.path)
        if stamp != self._stamp:
            self._stamp = stamp
            self._reload()
        return self.policy.decide(verdict, surface, trajectory)

    def _reload(self) -> None:
        try:
            self.policy = read_policy(self.path)
        except InputError as fault:
            self.fault = str(fault)
            _LOG.error("the policy stays as it was, because its file changed to something else: %s", fault)
        else:
            self.fault = ""
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
