// A person's client at OpenClaw's gateway: sends one message, and prints every event that came until the turn was over.

import { argv, stdout } from "node:process";

const [port, token, message, quietMs] = argv.slice(2);
const door = new WebSocket(`ws://127.0.0.1:${port}`);
const events = [];
const waiting = new Map();
let last;

function ask(method, params) {
  const id = crypto.randomUUID();
  door.send(JSON.stringify({ type: "req", id, method, params }));
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

async function talk() {
  const client = { id: "gateway-client", version: "1.0.0", platform: "linux", mode: "backend" };
  const scopes = ["operator.read", "operator.write"];
  const asks = { minProtocol: 4, maxProtocol: 4, client, role: "operator", scopes, caps: [], auth: { token } };
  await ask("connect", asks);
  await ask("chat.send", { sessionKey: "main", message, idempotencyKey: crypto.randomUUID() });
}

// The final message may be followed by others; the turn counts as over when nothing has come for a while after it.
function over() {
  stdout.write(JSON.stringify(events), () => process.exit(0));
}

door.addEventListener("message", ({ data }) => {
  const frame = JSON.parse(data);
  if (frame.type === "res") {
    const asked = waiting.get(frame.id);
    if (frame.ok) asked.resolve(frame.payload);
    else asked.reject(new Error(JSON.stringify(frame.error)));
    return;
  }
  if (frame.event === "connect.challenge") {
    talk().catch((fault) => (console.error(String(fault)), process.exit(1)));
    return;
  }
  events.push(frame);
  const done = frame.event === "chat" && ["final", "error", "aborted"].includes(frame.payload?.state);
  if (!done && last === undefined) return;
  clearTimeout(last);
  last = setTimeout(over, Number(quietMs));
});
