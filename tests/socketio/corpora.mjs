// S09 on whole corpora: every payload gets the same verdict over each transport and with each parser.
//
// PICKET_BIN=path/to/picket node corpora.mjs: reads the JSON Lines that lie beside the project, or at PICKET_CORPORA, and says so
// when they do not. The samples of the stories (`tests/stories/`) are in the repository; these are not.

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { io } from "socket.io-client";
import msgpackParser from "socket.io-msgpack-parser";
import { startApplication } from "./application.mjs";
import { PATIENCE_MS, connected } from "./patience.mjs";
import { HOME, startPicket } from "./picket.mjs";

const directory = process.env.PICKET_CORPORA ?? new URL("../../../shared/corpora", import.meta.url).pathname;
const PARSERS = { default: undefined, msgpack: msgpackParser };
const TRANSPORTS = ["websocket", "polling"];
/** No limit of rate is in the way of many payloads. */
const unhurried = { maxEvents: 1_000_000, windowMs: 1000 };
const policy = {
  rateLimiting: {
    messageLimit: { maxMessages: 1_000_000, windowMs: 1000 },
    eventLimit: unhurried,
    burstLimit: unhurried,
  },
  security: { blockSuspiciousIps: false, violationsBeforeClose: 1_000_000 },
};

if (!existsSync(directory)) {
  console.log(`no corpora at ${directory}: nothing compared (set PICKET_CORPORA)`);
  process.exit(0);
}

/** What an application's client would send of a line. */
function payloads(line) {
  const { payload, form } = line;
  if (typeof payload !== "string") return payload === undefined ? [] : [payload];
  if (form !== "json") return [payload];
  try {
    return [JSON.parse(payload)];
  } catch {
    return [payload];
  }
}

const files = readdirSync(directory).filter((name) => name.endsWith(".jsonl"));
const lines = files.flatMap((name) => readFileSync(`${directory}/${name}`, "utf8").split("\n").filter(Boolean).map(JSON.parse));
const all = lines.flatMap(payloads);
const verdicts = {};
for (const [name, parser] of Object.entries(PARSERS)) {
  const application = await startApplication(parser && { parser });
  const node = { limits: { inspectionMsPerSecond: 1000 } };
  const picket = await startPicket(application.port, { policy, node, route: { parser: name } });
  for (const transport of TRANSPORTS) {
    const socket = io(picket.url, {
      transports: [transport],
      forceNew: true,
      ...(parser && { parser }),
      extraHeaders: { Origin: HOME },
    });
    await connected(socket);
    const found = (verdicts[`${transport}, ${name} parser`] = []);
    for (const payload of all) {
      const answer = await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", payload);
      found.push(JSON.stringify(answer.error?.reason ? { refused: answer.error.reason } : { delivered: answer.got }));
    }
    socket.disconnect();
  }
  await picket.stop();
  await application.stop();
}

const [[first, expected], ...others] = Object.entries(verdicts);
for (const [title, found] of others) {
  all.forEach((payload, index) => assert.equal(found[index], expected[index], `${title}, unlike ${first}: ${JSON.stringify(payload).slice(0, 300)}`));
}
const refused = expected.filter((verdict) => verdict.startsWith('{"refused"')).length;
const changed = expected.filter((verdict, index) => verdict !== JSON.stringify({ delivered: all[index] })).length - refused;
console.log(`${all.length} payloads, the same verdict ${Object.keys(verdicts).length} times: ${refused} refused, ${changed} rewritten`);
