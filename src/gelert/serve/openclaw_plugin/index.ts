// Gelert in OpenClaw: each hook asks the local service. Hooks that OpenClaw lets pass on a fault get a block instead.

import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";

import { History, type Message } from "./history.ts";
import { ask, type Decision } from "./service.ts";

const APPROVAL_MS = 120_000;

type Fields = Record<string, any>;

export default definePluginEntry({
  id: "gelert",
  name: "Gelert",
  description: "A guard that judges the whole run before a tool runs and before a reply is delivered.",
  register(api: any) {
    const history = new History();
    const log = (decision: Decision, event: string) => {
      if (decision.decision !== "allow" || decision.degraded) api.logger?.warn?.(`${event}: ${decision.reason}`);
    };

    const question = async (event: string, session: string, more: Fields): Promise<Decision> => {
      const base = { hook_event_name: event, session_id: session, messages: history.of(session) };
      const decision = await ask({ ...base, ...more });
      log(decision, event);
      return decision;
    };

    api.on("before_agent_run", async (event: Fields, ctx: Fields) => {
      const session = sessionOf(event, ctx);
      const prompt: Message = { role: "user", content: event.prompt ?? "" };
      history.begin(session, [...(event.messages ?? []), prompt]);
      const decision = await question("before_agent_run", session, {});
      if (decision.decision === "allow") return { outcome: "pass" };
      return { outcome: "block", reason: decision.reason, message: decision.reason };
    });

    api.on("before_tool_call", async (event: Fields, ctx: Fields) => {
      const session = sessionOf(event, ctx);
      const id = String(event.toolCallId ?? "");
      const told = { tool_name: event.toolName, tool_input: event.params, tool_use_id: id };
      const decision = await question("before_tool_call", session, told);
      const call = { type: "toolCall", id, name: event.toolName, arguments: event.params };
      history.add(session, { role: "assistant", content: [call] });
      if (decision.decision === "allow") return undefined;
      if (decision.decision === "block") return { block: true, blockReason: decision.reason };
      const title = `Gelert asks about ${event.toolName}`;
      const approval = { title, description: decision.reason, severity: "warning", timeoutMs: APPROVAL_MS };
      return { requireApproval: approval };
    });

    api.on("after_tool_call", (event: Fields, ctx: Fields) => {
      const failed = event.error !== undefined && event.error !== null;
      const content = failed ? String(event.error) : textOf(event.result);
      const head = { role: "toolResult", toolCallId: String(event.toolCallId ?? ""), toolName: event.toolName };
      history.add(sessionOf(event, ctx), { ...head, content: [{ type: "text", text: content }], isError: failed });
    });

    api.on("reply_payload_sending", async (event: Fields, ctx: Fields) => {
      const session = sessionOf(event, ctx);
      const decision = await question("reply_payload_sending", session, { last_assistant_message: shown(event.payload) });
      return decision.decision === "allow" ? undefined : { payload: { text: `[withheld] ${decision.reason}` } };
    });

    api.on("message_sending", async (event: Fields, ctx: Fields) => {
      const told = { last_assistant_message: textOf(event.content) };
      const decision = await question("message_sending", sessionOf(event, ctx), told);
      return decision.decision === "allow" ? undefined : { content: `[withheld] ${decision.reason}` };
    });

    api.on("agent_end", async (event: Fields, ctx: Fields) => {
      const session = sessionOf(event, ctx);
      history.begin(session, event.messages ?? history.of(session));
      await question("agent_end", session, {});
    });
  },
});

function sessionOf(event: Fields, ctx: Fields | undefined): string {
  return String(ctx?.sessionKey ?? event.sessionKey ?? ctx?.sessionId ?? event.sessionId ?? ctx?.runId ?? "");
}

/** Everything of a payload that a person will read, its buttons and links too. */
function shown(payload: Fields | undefined): string {
  const { text = "", ...rest } = payload ?? {};
  const more = JSON.stringify(rest, (_, value) => (typeof value === "bigint" ? String(value) : value)) ?? "";
  return more === "{}" ? text : `${text}\n${more}`;
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  const parts = (value as Fields | undefined)?.content;
  if (Array.isArray(parts)) return parts.map((part) => part?.text ?? JSON.stringify(part)).join("\n");
  return JSON.stringify(value) ?? "";
}
