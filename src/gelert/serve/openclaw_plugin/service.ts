// The one question that the plugin has: may this go on? Whatever goes wrong on the way is a block.

import { request } from "node:http";
import { homedir } from "node:os";
import { join } from "node:path";

/** For everything; OpenClaw gives up after 15 s, and lets a reply pass then. */
const DEADLINE_MS = 12_000;
const MOST_QUESTION_BYTES = 12 << 20;
const MOST_ANSWER_BYTES = 48 << 10;

export type Decision = { decision: "allow" | "ask" | "block"; reason: string; degraded: boolean };

/** Where the service listens; the same places as `gelert.serve.places`. */
export function socketPath(environment: NodeJS.ProcessEnv = process.env): string {
  if (environment.GELERT_SOCKET) return environment.GELERT_SOCKET;
  if (environment.XDG_RUNTIME_DIR) return join(environment.XDG_RUNTIME_DIR, "gelert.sock");
  return join(environment.GELERT_HOME || join(homedir(), ".gelert"), "gelert.sock");
}

/** The decision on one event. Never throws. */
export async function ask(question: Record<string, unknown>): Promise<Decision> {
  try {
    const body = JSON.stringify(question, (_, value) => (typeof value === "bigint" ? String(value) : value));
    if (Buffer.byteLength(body) > MOST_QUESTION_BYTES) throw new Error("the run is too long to be judged");
    return decided(await answer(body));
  } catch (fault) {
    const why = fault instanceof Error ? fault.message : String(fault);
    const reason = `gelert: degraded, blocked without a verdict: ${why}; is 'gelert serve' running? (${socketPath()})`;
    return { decision: "block", reason, degraded: true };
  }
}

function answer(body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body), host: "localhost" };
    const asked = request({ socketPath: socketPath(), path: "/v1/hooks/openclaw", method: "POST", headers });
    // The whole answer must be there by then; a timeout of the socket alone would wait for every drop of a slow one.
    const watch = setTimeout(() => asked.destroy(new Error("no answer in time")), DEADLINE_MS);
    const failed = (fault: Error) => (clearTimeout(watch), reject(fault));
    asked.on("error", failed);
    asked.on("response", (came) => {
      const parts: Buffer[] = [];
      let count = 0;
      came.on("error", failed);
      came.on("aborted", () => failed(new Error("half an answer")));
      came.on("data", (part: Buffer) => {
        parts.push(part);
        count += part.length;
        if (count > MOST_ANSWER_BYTES) asked.destroy(new Error("an answer that is too long"));
      });
      came.on("end", () => {
        clearTimeout(watch);
        if (came.statusCode !== 200) reject(new Error(`status ${came.statusCode}`));
        else resolve(Buffer.concat(parts).toString("utf8"));
      });
    });
    asked.end(body);
  });
}

function decided(text: string): Decision {
  const found = JSON.parse(text);
  const known = ["allow", "ask", "block"].includes(found?.decision);
  if (!known || typeof found.reason !== "string") throw new Error("expected a decision, got another answer");
  if (found.decision !== "allow" && !found.reason.trim()) throw new Error("expected a reason, got none");
  return { decision: found.decision, reason: found.reason, degraded: found.degraded === true };
}
