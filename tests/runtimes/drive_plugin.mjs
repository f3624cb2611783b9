// Calls the OpenClaw plugin's own handlers, as OpenClaw does, with the events on standard input; prints what they gave.

import { argv, stdin, stdout } from "node:process";

const plugin = (await import(argv[2])).default;
const handlers = {};
const quiet = { warn: () => undefined };
plugin.register({ on: (name, handler) => (handlers[name] = handler), logger: quiet });

let text = "";
for await (const part of stdin) text += part;
const given = [];
for (const { name, event, ctx } of JSON.parse(text)) given.push((await handlers[name](event, ctx)) ?? null);
stdout.write(JSON.stringify({ names: Object.keys(handlers), given }));
