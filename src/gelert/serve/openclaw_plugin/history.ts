// What was said and done in each session. A tool's call comes without its history, so it is kept here, bounded.

const MOST_SESSIONS = 64;
const MOST_MESSAGES = 4_000;

export type Message = { role: string; content: unknown; [key: string]: unknown };

export class History {
  private readonly sessions = new Map<string, Message[]>();

  /** Everything so far; empty for a session that nobody began. */
  of(session: string): Message[] {
    return this.sessions.get(session) ?? [];
  }

  /** Begin a turn with what OpenClaw itself tells of the session. */
  begin(session: string, messages: Message[]): void {
    this.sessions.delete(session);
    this.sessions.set(session, messages.slice(-MOST_MESSAGES));
    for (const oldest of this.sessions.keys()) {
      if (this.sessions.size <= MOST_SESSIONS) break;
      this.sessions.delete(oldest);
    }
  }

  add(session: string, message: Message): void {
    this.begin(session, [...this.of(session), message]);
  }
}
