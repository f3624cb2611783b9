"""The tool server of a taskset of worlds: one process for all rollouts, which speaks MCP.

It remembers nothing. A rollout's state holds the calls of its episode, and each further call plays them again, which
takes microseconds. Verifiers starts it with ``python -m``.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUntypedFunctionDecorator=false
# Verifiers is an extra: where it is not installed, what it gives has no types.

import asyncio
import json
from typing import Any

from pydantic import Field

from gelert.core.errors import missing_extra
from gelert.worlds.bridges.carried import Told, again, carried, named
from gelert.worlds.tasks import begin

try:
    import verifiers.v1 as vf
    from mcp.server.mcpserver import MCPServer
    from mcp.types import CallToolResult, TextContent, Tool
except ModuleNotFoundError:
    raise missing_extra("gelert.worlds.bridges.verifiers_tools", "verifiers") from None


class Played(vf.State):
    """What a rollout and its tool server share."""

    worlds: list[str] = Field(default_factory=list)
    task: str = ""
    calls: list[Told] = Field(default_factory=list)


class WorldTools(vf.Toolset[vf.SharedToolsetConfig, Played]):
    """The tools of each rollout's task."""

    TOOL_PREFIX = None

    def __init__(self, config: vf.SharedToolsetConfig) -> None:
        super().__init__(config)
        # A state is pulled, changed and pushed back as a whole: of two calls at once one would be lost.
        self._turn = asyncio.Lock()

    def register(self, mcp: MCPServer) -> None:
        """Answer for the tools of whichever task a request is of."""
        # Which tools there are depends on the rollout, so the server's own list of tools is not used.
        server: Any = mcp
        listed, called = self._with_state(self._list), self._with_state(self._call)

        async def call(name: str, arguments: dict[str, Any], context: object = None) -> CallToolResult:  # noqa: ARG001 -- MCP's
            async with self._turn:
                return await called(name, arguments)

        server.list_tools, server.call_tool = listed, call

    async def _list(self) -> list[Tool]:
        return [
            Tool(name=spec.name, description=spec.description, input_schema=json.loads(spec.parameters))
            for spec in begin(named(self.state.worlds, self.state.task)).tools
        ]

    async def _call(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        episode = again(named(self.state.worlds, self.state.task), self.state.calls)
        result = episode.call(name, arguments)
        self.state.calls = carried(episode)
        return CallToolResult(content=[TextContent(type="text", text=result)])


if __name__ == "__main__":
    WorldTools.run()
