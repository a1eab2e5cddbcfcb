// Two nodes behind each load balancer that the documentation has a configuration for.

import assert from "node:assert/strict";
import { Agent } from "node:http";
import { after, afterEach, before, describe, test } from "node:test";
import { Manager, io } from "socket.io-client";
import { startApplication } from "./application.mjs";
import { BALANCERS, NODES } from "./balancers.mjs";
import { PATIENCE_MS, connected, eventually, hears } from "./patience.mjs";
import { HOME, startPicket } from "./picket.mjs";

/** A balancer has to notice that a node is gone. */
const NOTICES_WITHIN_MS = 15_000;
const bounded = { timeout: 30_000 };
/** An address that no proxy has. */
const ADDRESS = "127.0.0.2";
const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], "polling, then websocket": ["polling", "websocket"] };

for (const [name, { node, start }] of Object.entries(BALANCERS)) {
  describe(`behind ${name}:`, () => {
    let application;
    let nodes = [];
    let balancer;
    let open = [];
    const agent = new Agent({ localAddress: ADDRESS, keepAlive: true });

    before(async () => {
      application = await startApplication();
      nodes = await Promise.all(NODES.map((own) => startPicket(application.port, { node: { ...node, ...own } })));
      balancer = await start(nodes);
    });

    after(async () => {
      agent.destroy();
      await balancer?.stop();
      await Promise.all(nodes.map((picket) => picket.stop()));
      await application?.stop();
    });

    afterEach(() => {
      for (const socket of open) socket.disconnect();
      open = [];
    });

    /** How many clients each node has. */
    const counts = () => Promise.all(nodes.map((picket) => picket.connections()));

    /** Keeps the balancer's cookie, as a browser does. */
    const options = (transports, extra) => ({
      transports,
      forceNew: true,
      reconnection: false,
      withCredentials: true,
      extraHeaders: { Origin: HOME },
      ...extra,
    });

    for (const [title, transports] of Object.entries(TRANSPORTS)) {
      test(`over ${title}: namespaces, acknowledgements and binary, several clients at once`, bounded, async () => {
        await Promise.all([1, 2, 3, 4].map(async (number) => {
          const manager = new Manager(balancer.url, options(transports, { agent }));
          const [root, chat] = ["/", "/chat"].map((namespace) => manager.socket(namespace));
          open.push(root, chat);
          await Promise.all([connected(root), connected(chat)]);
          await eventually("the last transport", () => root.io.engine.transport.name === transports.at(-1));

          for (const socket of [root, chat]) {
            const answer = await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", { number });
            assert.deepEqual(answer, { namespace: socket.nsp, got: { number } });
          }
          const bytes = Buffer.alloc(100_000, number);
          const back = hears(root, "binary:back");
          assert.ok(Buffer.from(await root.timeout(PATIENCE_MS).emitWithAck("binary:send", bytes)).equals(bytes));
          assert.ok(Buffer.from((await back)[0]).equals(bytes));
          root.on("question", (question, acknowledge) => acknowledge(`my ${question.what}`));
          assert.equal(await root.timeout(PATIENCE_MS).emitWithAck("ask:me"), "my name");
        }));
        const clients = application.connections.slice(-8).map((connection) => connection.headers["x-picket-client"]);
        assert.deepEqual(new Set(clients), new Set([ADDRESS]), "the client's own address, not the balancer's");
      });
    }

    test("s10: when a node is killed its clients come back elsewhere, where its session ids are unknown", bounded, async () => {
      await eventually("no client is left", async () => (await counts()).every((count) => count === 0));
      const endpoint = `${balancer.url}/socket.io/?EIO=4&transport=polling`;
      const opened = await fetch(endpoint, { headers: { origin: HOME } });
      const cookie = opened.headers.getSetCookie().map((line) => line.split(";")[0]).join("; ");
      const { sid } = JSON.parse((await opened.text()).slice(1));
      const headers = { origin: HOME, cookie };
      assert.equal(await (await fetch(`${endpoint}&sid=${sid}`, { method: "POST", headers, body: "40" })).text(), "ok");
      const holder = await eventually("who holds the session", async () => {
        const held = await counts();
        return nodes[held.indexOf(1)];
      });
      const again = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };
      const sockets = Object.values(TRANSPORTS).map((transports) => io(`${balancer.url}/chat`, options(transports, again)));
      open.push(...sockets);
      let lost = 0;
      for (const socket of sockets) socket.on("disconnect", () => (lost += 1));
      await Promise.all(sockets.map((socket) => connected(socket)));

      await holder.stop();
      const unknown = await eventually("the protocol's own answer", async () => {
        const answer = await fetch(`${endpoint}&sid=${sid}`, { headers });
        const body = await answer.text();
        return answer.status === 400 && JSON.parse(body);
      }, NOTICES_WITHIN_MS);
      assert.deepEqual(unknown, { code: 1, message: "Session ID unknown" });
      await eventually("all are back", () => lost > 0 && sockets.every((socket) => socket.connected), NOTICES_WITHIN_MS);
      for (const socket of sockets) {
        assert.equal((await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", "back")).got, "back");
      }
    });
  });
}
