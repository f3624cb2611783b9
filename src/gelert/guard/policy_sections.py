"""What a policy file may say, and how a surface is treated by what it says."""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gelert.core.errors import InputError
from gelert.core.trajectory import Setting
from gelert.guard.flow import Tools, flow
from gelert.guard.policy import OnFailure, Policy, Rule, Surface

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)

Risk = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Tool = Annotated[str, Field(pattern=r"^[^\s\[\],*]+\*?$", max_length=200)]
"""A tool's name, as rules have it: it may end in ``*``."""


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


def folder(path: str) -> PurePosixPath | None:
    """The folder at an absolute path, by its parts and without a look at the disk; None if that does not say which."""
    found = PurePosixPath(path)
    return found if found.is_absolute() and ".." not in found.parts else None


class ProjectSection(Surfaces):
    """What is different for an agent that works in a folder or below it."""

    path: str
    allow: Annotated[list[Tool], Field(max_length=256)] = []

    @field_validator("path")
    @classmethod
    def _is_a_folder(cls, path: str) -> str:
        if folder(path) is None:
            raise ValueError(f"expected an absolute path without '..', got {path!r}")
        return path

    @property
    def folder(self) -> PurePosixPath:
        """Where the project lies."""
        return PurePosixPath(self.path)


class PolicySections(Surfaces):
    """A whole file."""

    setting: dict[Literal["general", "openclaw", "codex"], Surfaces] = {}
    rule: Annotated[list[RuleSection], Field(max_length=256)] = []
    project: Annotated[list[ProjectSection], Field(max_length=256)] = []

    @model_validator(mode="after")
    def _asks_before_it_blocks(self) -> "PolicySections":
        for place in (None, *(one.folder for one in self.project)):
            for setting in Setting:
                for surface in Surface:
                    _check(self.treatment(setting, surface, place).rule, surface, setting, place)
        return self

    @model_validator(mode="after")
    def _names_a_project_once(self) -> "PolicySections":
        places = [one.folder for one in self.project]
        if twice := {str(place) for place in places if places.count(place) > 1}:
            raise ValueError(f"expected one section for a project, got two for {', '.join(sorted(twice))}")
        return self

    def projects(self, place: PurePosixPath | None) -> list[ProjectSection]:
        """The projects that a folder lies in, the outermost first."""
        found = [one for one in self.project if place and place.is_relative_to(one.folder)]
        return sorted(found, key=lambda one: len(one.folder.parts))

    def treatment(self, setting: Setting, surface: Surface, place: PurePosixPath | None = None) -> "Treatment":
        """What holds on a surface: the default, then the file, the setting's section, and those of the projects."""
        found = Treatment(Policy().rule(surface))
        for surfaces in (self, self.setting.get(setting.value), *self.projects(place)):
            if surfaces:
                found = found.under(surfaces.section(surface))
        return found

    def allowed(self, place: PurePosixPath | None) -> Tools:
        """The tools that pass in a folder whatever a call's risk is."""
        names = [name for one in self.projects(place) for name in one.allow]
        prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
        return Tools(frozenset(name for name in names if not name.endswith("*")), prefixes)


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


def _check(rule: Rule, surface: Surface, setting: Setting, place: PurePosixPath | None) -> None:
    if rule.block_at is not None and rule.ask_at is not None and rule.ask_at >= rule.block_at:
        where = f"{setting.value}, {place}" if place else setting.value
        raise ValueError(
            f"expected ask_at below block_at on {surface.value} in {where}, "
            f"got {rule.ask_at:g} and {rule.block_at:g}: nobody would be asked"
        )
