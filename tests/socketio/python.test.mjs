// Another implementation of the protocol: python-socketio's client, with Picket between it and the application.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { startApplication } from "./application.mjs";
import { HOME, startPicket } from "./picket.mjs";
import { eventually } from "./patience.mjs";
import { token } from "./tokens.mjs";

const bounded = { timeout: 30_000 };
const python = new URL(".venv/bin/python", import.meta.url).pathname;
const script = new URL("client.py", import.meta.url).pathname;

describe("python-socketio", () => {
  let application;
  let picket;

  before(async () => {
    application = await startApplication();
    picket = await startPicket(application.port, {
      // A polling client that was refused waits for the node to end the connection.
      node: { limits: { connectTimeoutMs: 3000 } },
      policy: {
        validation: {
          allowedEventTypes: ["chat:*", "binary:*", "ask:me"],
          requireAuthentication: ["chat:private"],
          eventRoles: { "chat:moderate": ["moderator"] },
        },
      },
    });
  });

  after(async () => {
    await picket?.stop();
    await application?.stop();
  });

  for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
    test(`over ${transports.join(", then ")}`, bounded, async () => {
      const address = `198.51.100.${transports.length}`;
      const client = spawn(python, [script, picket.url, HOME, address, token("alice"), ...transports]);
      const said = [];
      for (const output of [client.stdout, client.stderr]) output.on("data", (data) => said.push(data.toString()));
      const [code] = await once(client, "close");
      assert.equal(code, 0, said.join(""));

      const refused = ["admin:drop", "chat:moderate"];
      assert.ok(!application.seen.some((record) => refused.includes(record.event)), "none reaches the application");
      await eventually("the application hears that it left", () => application.io.of("/").sockets.size === 0);
    });
  }
});
