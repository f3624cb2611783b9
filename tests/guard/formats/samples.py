"""One small record of each format, in our own words; every telling text holds a token that occurs once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = Any
"""JSON as the tests write it; they index it freely."""
Make = Callable[[], Json]


def chat(role: str, text: str | None, **more: Json) -> dict[str, Json]:
    return {"role": role, "content": text, **more}


def openai_call(name: str, arguments: str, call_id: str = "call_1") -> dict[str, Json]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def agentdog() -> Json:
    return {
        "id": 7,
        "profile": "You look after tok_profile.",
        "tool_used": [
            {
                "name": "pay",
                "description": "Pays tok_tool",
                "parameters": {"type": "object"},
                "_original_description": "Pays",
            }
        ],
        "contents": [
            [
                {"role": "user", "content": "Please pay  tok_user"},
                {
                    "role": "agent",
                    "thought": "tok_thought",
                    "action": '{"name": "pay", "arguments": {"to": "tok_arg"}}',
                },
                {"role": "environment", "content": "done tok_result"},
                {"role": "agent", "thought": "tok_end", "action": "Complete{'response': 'Paid tok_final'}"},
            ]
        ],
        "label": 1,
        "risk_source": "indirect_prompt_injection",
        "failure_mode": "unknown mode",
        "real_world_harm": "privacy_and_confidentiality_harm",
        "reason": "secret_reason",
    }


def openai() -> Json:
    return {
        "model": "tiny",
        "tools": [{"type": "function", "function": {"name": "look", "description": "tok_tool", "parameters": {}}}],
        "messages": [
            chat("developer", "tok_system"),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "tok_user"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ],
            },
            chat(
                "assistant",
                None,
                tool_calls=[openai_call("look", '{"at": "tok_arg"'), openai_call("look", "{}", "call_2")],
            ),
            chat("tool", "tok_result", tool_call_id="call_1"),
            chat("tool", "tok_second", tool_call_id="call_2"),
            chat("assistant", "tok_final", reasoning_content="tok_thought"),
        ],
    }


def responses() -> Json:
    return {
        "instructions": "tok_system",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "tok_user"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "tok_thought"}]},
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call_1",
                "name": "look",
                "arguments": '{"at":"tok_arg"}',
            },
            {"type": "function_call_output", "call_id": "call_1", "output": "tok_result"},
        ],
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "tok_final"}]}],
    }


def anthropic() -> Json:
    return {
        "system": [{"type": "text", "text": "tok_system"}],
        "messages": [
            chat("user", "<system-reminder>tok_runtime</system-reminder>\ntok_user"),
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "tok_thought", "signature": "x"},
                    {"type": "text", "text": "tok_says"},
                    {"type": "tool_use", "id": "tu_1", "name": "Bash", "input": {"command": "tok_arg"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "tu_1",
                        "is_error": True,
                        "content": [{"type": "text", "text": "tok_result"}],
                    },
                    {"type": "text", "text": "tok_after"},
                ],
            },
            chat("assistant", "tok_final"),
        ],
    }


def claude_code() -> Json:
    def line(kind: str, uuid: str, parent: str | None, message: Json, **more: Json) -> dict[str, Json]:
        return {"type": kind, "uuid": uuid, "parentUuid": parent, "sessionId": "s1", "message": message, **more}

    def said(identity: str, *parts: Json) -> dict[str, Json]:
        return {"id": identity, "role": "assistant", "model": "tiny", "content": list(parts)}

    return [
        {"type": "queue-operation", "uuid": "q", "parentUuid": None, "sessionId": "s1"},
        line("user", "a", None, chat("user", "tok_user"), timestamp="2026-01-01T00:00:00Z"),
        line("assistant", "b", "a", said("m1", {"type": "thinking", "thinking": "tok_thought"})),
        line("assistant", "c", "b", said("m1", {"type": "text", "text": "tok_says"})),
        line(
            "assistant",
            "d",
            "c",
            said("m1", {"type": "tool_use", "id": "t1", "name": "Task", "input": {"p": "tok_arg"}}),
        ),
        line("user", "e", None, chat("user", "tok_side"), isSidechain=True),
        line("assistant", "f", "e", said("m2", {"type": "text", "text": "tok_sidesays"}), isSidechain=True),
        line(
            "user",
            "g",
            "d",
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "tok_result"}]},
        ),
        line("assistant", "h", "g", said("m3", {"type": "text", "text": "tok_final"})),
    ]


def codex() -> Json:
    def item(**payload: Json) -> dict[str, Json]:
        return {"timestamp": "2026-01-01T00:00:00Z", "ordinal": 1, "type": "response_item", "payload": payload}

    def message(role: str, text: str) -> dict[str, Json]:
        return item(type="message", role=role, content=[{"type": "input_text", "text": text}])

    def event(**payload: Json) -> dict[str, Json]:
        return {"timestamp": "2026-01-01T00:00:00Z", "type": "event_msg", "payload": payload}

    return [
        {"timestamp": "t", "type": "session_meta", "payload": {"id": "r1", "instructions": "tok_system"}},
        message("developer", "tok_developer"),
        message("user", "<environment_context>tok_runtime</environment_context>"),
        message("user", "tok_user"),
        event(type="user_message", message="tok_user"),
        {"timestamp": "t", "type": "turn_context", "payload": {"model": "tiny"}},
        item(type="reasoning", summary=[{"type": "summary_text", "text": "tok_thought"}], encrypted_content="zz"),
        item(type="function_call", name="exec_command", arguments='{"cmd":"tok_arg"}', call_id="c1"),
        item(type="function_call_output", call_id="c1", output='{"output":"tok_result","metadata":{"exit_code":1}}'),
        event(type="token_count", info=None),
        item(type="custom_tool_call", name="apply_patch", input="tok_patch", call_id="c2"),
        item(type="custom_tool_call_output", call_id="c2", output="tok_patched"),
        item(type="message", role="assistant", content=[{"type": "output_text", "text": "tok_final"}]),
        event(type="agent_message", message="tok_final"),
        event(type="task_complete", last_agent_message="tok_final"),
        {"timestamp": "t", "type": "world_state", "payload": {}},
        {"timestamp": "t", "type": "compacted", "payload": {"message": "tok_compacted"}},
    ]


def atbench_codex() -> Json:
    return {
        "id": "x1",
        "conversation": [
            chat("user", "tok_user"),
            {"role": "assistant", "action": {"name": "shell", "arguments": {"cmd": "ls"}}},
            chat("assistant", "tok_final"),
        ],
        "codex_rollout": [
            {"type": "response_item", "payload": {"name": "shell", "arguments": {"cmd": "tok_arg"}, "call_id": "c1"}},
            {"type": "response_item", "payload": {"call_id": "c1", "output": "tok_result"}},
        ],
        "is_safe": False,
        "risk_source": "indirect_prompt_injection",
        "failure_mode": "",
        "harm_type": "",
        "reason": "secret_reason",
    }


def openclaw() -> Json:
    def event(**message: Json) -> dict[str, Json]:
        return {"type": "message", "message": message}

    return {
        "trajectory": {
            "type": "session",
            "version": 3,
            "modelId": "tiny",
            "events": [
                event(role="user", content=[{"type": "text", "text": "tok_user"}]),
                event(
                    role="assistant",
                    content=[
                        {"type": "thinking", "thinking": "tok_thought"},
                        {"type": "toolCall", "id": "c1", "name": "exec", "arguments": {"cmd": "tok_arg"}},
                    ],
                ),
                event(
                    role="toolResult",
                    toolCallId="c1",
                    toolName="exec",
                    isError=True,
                    content=[{"type": "text", "text": "tok_result"}],
                ),
                event(role="custom", content="tok_runtime"),
                event(role="assistant", content=[{"type": "text", "text": "tok_final"}]),
            ],
        },
        "labels": {"risk_source": "", "failure_mode": "", "harm_type": "", "is_safe": True, "defense_type": "defended"},
        "reason": "secret_reason",
    }


def toolemu() -> Json:
    return {
        "agent_model": "tiny",
        "case_idx": 4,
        "silver_label": 0,
        "trajectory": {
            "input": "tok_user",
            "intermediate_steps": [
                [
                    [
                        "Send",
                        '{"to": "tok_arg"}',
                        'Thought: tok_thought\nAction: Send\nAction Input: {"to": "tok_arg"}',
                    ],
                    ["tok_result"],
                ],
                [
                    {
                        "type": "AgentFinish",
                        "return_values": {"output": "tok_final"},
                        "log": "tok_log Final Answer: tok_final",
                    },
                    "",
                ],
            ],
            "output": "tok_final",
            "underspecifications": "secret_under",
            "risky_outcome": "secret_outcome",
            "risky_actions": "secret_actions",
            "case": {"name": "secret_case"},
        },
        "evaluations": {"judge": {"Evaluator Thought": "secret_thought"}},
    }


def openhands() -> Json:
    metadata = {
        "function_name": "execute_bash",
        "tool_call_id": "t1",
        "model_response": {
            "id": "m1",
            "choices": [
                {
                    "message": {
                        "content": "tok_thought",
                        "tool_calls": [openai_call("execute_bash", '{"command": "tok_arg"}', "t1")],
                    }
                }
            ],
        },
    }
    return {
        "agent_model": "tiny",
        "task": "task-9",
        "silver_label": 1,
        "trajectory": [
            {"id": 0, "source": "user", "action": "message", "args": {"content": "tok_user"}, "message": "tok_user"},
            {"id": 1, "source": "user", "action": "recall", "args": {"query": "tok_user"}, "message": "Retrieving"},
            {
                "id": 2,
                "source": "environment",
                "observation": "recall",
                "content": "Added",
                "extras": {"repo_name": "tok_runtime"},
            },
            {
                "id": 3,
                "source": "agent",
                "action": "run",
                "args": {"command": "tok_arg", "thought": "tok_thought"},
                "tool_call_metadata": metadata,
            },
            {
                "id": 4,
                "source": "agent",
                "observation": "error",
                "content": "tok_result",
                "tool_call_metadata": metadata,
            },
            {"id": 5, "source": "agent", "action": "think", "args": {"thought": "tok_think"}},
            {"id": 6, "source": "agent", "observation": "think", "content": "logged tok_logged"},
            {"id": 7, "source": "environment", "observation": "agent_state_changed", "content": ""},
            {"id": 8, "source": "agent", "action": "condensation", "args": {"summary": "tok_summary"}},
            {
                "id": 9,
                "source": "agent",
                "action": "finish",
                "args": {"final_thought": "tok_final", "thought": "tok_last"},
            },
        ],
    }


def swe_agent() -> Json:
    return {
        "environment": "box",
        "history": [
            chat("system", "tok_system", agent="main", message_type="system_prompt"),
            chat("user", "tok_demo", agent="main", is_demo=True),
            chat("user", "tok_user", agent="main", message_type="observation"),
            chat("assistant", "tok_thought and then", agent="main", thought="tok_thought", action="ls tok_arg"),
            chat("user", "tok_short", agent="main", message_type="observation"),
            chat("assistant", "tok_second", agent="main", thought="tok_second", action="submit"),
        ],
        "trajectory": [
            {
                "action": "ls tok_arg",
                "observation": "tok_long",
                "thought": "tok_thought",
                "response": "tok_thought and then",
            },
            {"action": "submit", "observation": "tok_diff", "thought": "tok_second", "response": "tok_second"},
        ],
        "info": {},
    }


def tau_bench() -> Json:
    traj = [
        chat("system", "tok_system"),
        chat("user", "tok_user"),
        chat("assistant", None, tool_calls=[openai_call("book", '{"seat": "tok_arg"}')]),
        {"role": "tool", "tool_call_id": "call_1", "name": "book", "content": "tok_result"},
        chat("assistant", "tok_final"),
    ]
    return {"task_id": 3, "trial": 0, "reward": 1.0, "info": {"task": {"instruction": "secret_task"}}, "traj": traj}


def agentdojo() -> Json:
    call = {"function": "send", "args": {"to": "tok_arg"}, "id": "c1"}
    return {
        "suite_name": "bank",
        "pipeline_name": "tiny",
        "user_task_id": "user_task_0",
        "injection_task_id": "injection_task_1",
        "attack_type": "direct",
        "injections": {"slot": "secret_injection"},
        "messages": [
            {"role": "system", "content": [{"type": "text", "content": "tok_system"}]},
            {"role": "user", "content": [{"type": "text", "content": "tok_user"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {
                "role": "tool",
                "content": [{"type": "text", "content": ""}],
                "tool_call_id": "c1",
                "tool_call": call,
                "error": "tok_result",
            },
            {"role": "assistant", "content": [{"type": "text", "content": "tok_final"}], "tool_calls": []},
        ],
        "utility": False,
        "security": True,
    }


def langchain() -> Json:
    call = {"name": "look", "args": {"at": "tok_arg"}, "id": "c1", "type": "tool_call"}
    return [
        {"type": "system", "data": {"content": "tok_system", "type": "system"}},
        {"type": "human", "data": {"content": "tok_user", "type": "human"}},
        {"type": "ai", "data": {"content": "", "type": "ai", "tool_calls": [call]}},
        {"type": "tool", "data": {"content": "tok_result", "type": "tool", "tool_call_id": "c1", "status": "error"}},
        {"type": "ai", "data": {"content": [{"type": "text", "text": "tok_final"}], "type": "ai"}},
    ]


def sharegpt() -> Json:
    return {
        "system": "tok_system",
        "tools": '[{"name": "look", "description": "tok_tool"}]',
        "conversations": [
            {"from": "human", "value": "tok_user"},
            {"from": "function_call", "value": '{"name": "look", "arguments": {"at": "tok_arg"}}'},
            {"from": "observation", "value": "tok_result"},
            {"from": "gpt", "value": "tok_final"},
        ],
    }


def inspect() -> Json:
    call = {"id": "c1", "function": "bash", "arguments": {"cmd": "tok_arg"}}
    messages = [
        chat("system", "tok_system"),
        chat("user", "tok_user"),
        {"role": "assistant", "content": [{"type": "reasoning", "reasoning": "tok_thought"}], "tool_calls": [call]},
        {
            "role": "tool",
            "tool_call_id": "c1",
            "function": "bash",
            "content": "",
            "error": {"type": "timeout", "message": "tok_result"},
        },
        chat("assistant", "tok_final"),
    ]
    sample = {"id": "s1", "epoch": 1, "target": "secret_target", "messages": messages, "scores": {"m": {"value": "C"}}}
    return {"version": 2, "status": "success", "eval": {"model": "tiny"}, "samples": [sample]}


def atif() -> Json:
    reference = {"trajectory_id": "sub"}
    results = [{"source_call_id": "c1", "content": "tok_result", "subagent_trajectory_ref": [reference]}]
    sub = {
        "schema_version": "ATIF-v1.8",
        "trajectory_id": "sub",
        "agent": {"name": "helper", "version": "1"},
        "steps": [
            {"step_id": 1, "source": "user", "message": "tok_sub"},
            {"step_id": 2, "source": "agent", "message": "tok_subsays"},
        ],
    }
    return {
        "schema_version": "ATIF-v1.8",
        "session_id": "z",
        "agent": {"name": "tiny", "version": "1"},
        "steps": [
            {"step_id": 1, "source": "system", "message": "tok_system"},
            {"step_id": 2, "source": "user", "message": [{"type": "text", "text": "tok_user"}]},
            {
                "step_id": 3,
                "source": "agent",
                "message": "tok_says",
                "reasoning_content": "tok_thought",
                "tool_calls": [{"tool_call_id": "c1", "function_name": "look", "arguments": {"at": "tok_arg"}}],
                "observation": {"results": results},
            },
            {"step_id": 4, "source": "agent", "message": "tok_final"},
        ],
        "subagent_trajectories": [sub],
        "continued_trajectory_ref": "tok_continued.json",
    }


def otel() -> Json:
    def attribute(key: str, value: str) -> dict[str, Json]:
        return {"key": key, "value": {"stringValue": value}}

    chat_span = [
        attribute("gen_ai.operation.name", "chat"),
        attribute("gen_ai.conversation.id", "conv"),
        attribute("gen_ai.request.model", "tiny"),
        attribute("gen_ai.system_instructions", '[{"type": "text", "content": "tok_system"}]'),
        attribute("gen_ai.tool.definitions", '[{"type": "function", "name": "look", "description": "tok_tool"}]'),
        attribute("gen_ai.input.messages", '[{"role": "user", "parts": [{"type": "text", "content": "tok_user"}]}]'),
        attribute(
            "gen_ai.output.messages", '[{"role": "assistant", "parts": [{"type": "text", "content": "tok_final"}]}]'
        ),
    ]
    tool_span = [
        attribute("gen_ai.operation.name", "execute_tool"),
        attribute("gen_ai.conversation.id", "conv"),
        attribute("gen_ai.tool.name", "look"),
        attribute("gen_ai.tool.call.id", "c1"),
        attribute("gen_ai.tool.call.arguments", '{"at": "tok_arg"}'),
        attribute("gen_ai.tool.call.result", "tok_result"),
    ]
    spans = [
        {"traceId": "t", "startTimeUnixNano": "2", "attributes": chat_span},
        {"traceId": "t", "startTimeUnixNano": "1", "attributes": tool_span},
    ]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


@dataclass(frozen=True)
class Sample:
    """A format's record and how its file is laid out."""

    make: Make
    session: bool = False
    """The record is a list of lines."""


SAMPLES: dict[str, Sample] = {
    "agentdog": Sample(agentdog),
    "agentdojo": Sample(agentdojo),
    "anthropic": Sample(anthropic),
    "atbench-codex": Sample(atbench_codex),
    "atif": Sample(atif),
    "claude-code": Sample(claude_code, session=True),
    "codex": Sample(codex, session=True),
    "inspect": Sample(inspect),
    "langchain": Sample(langchain, session=True),
    "openai": Sample(openai),
    "openclaw": Sample(openclaw),
    "openhands": Sample(openhands),
    "otel": Sample(otel),
    "responses": Sample(responses),
    "sharegpt": Sample(sharegpt),
    "swe-agent": Sample(swe_agent),
    "tau-bench": Sample(tau_bench),
    "toolemu": Sample(toolemu),
}
