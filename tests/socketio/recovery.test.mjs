// Connection-state recovery (Socket.IO 4.6): a client whose transport broke comes back to its session, through Picket.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import msgpackParser from "socket.io-msgpack-parser";
import { startApplication } from "./application.mjs";
import { PATIENCE_MS, bounded, connected, eventually, hears } from "./patience.mjs";
import { HOME, startPicket } from "./picket.mjs";
import { token } from "./tokens.mjs";

const TRANSPORTS = [["polling"], ["websocket"], ["polling", "websocket"]];

for (const [name, parser] of Object.entries({ default: undefined, msgpack: msgpackParser })) {
  describe(`with the ${name} parser, connection-state recovery`, () => {
    let application;
    let picket;
    let socket;
    let auth;

    before(async () => {
      application = await startApplication({ ...(parser && { parser }), connectionStateRecovery: { maxDisconnectionDuration: 60_000 } });
      picket = await startPicket(application.port, { route: { parser: name } });
    });

    after(async () => {
      await picket?.stop();
      await application?.stop();
    });

    afterEach(() => socket?.disconnect());

    /** Joined, and with a packet to say as the last one that it has. */
    async function joined(transports) {
      auth = { token: token("alice") };
      socket = io(`${picket.url}/chat`, {
        transports,
        ...(parser && { parser }),
        forceNew: true,
        reconnectionDelay: 50,
        reconnectionDelayMax: 100,
        auth: (tell) => tell(auth),
        extraHeaders: { Origin: HOME },
      });
      await connected(socket);
      await eventually("the last transport", () => socket.io.engine.transport.name === transports.at(-1));
      const first = hears(socket, "news");
      application.io.of("/chat").emit("news", 1);
      assert.deepEqual((await first)[0], 1);
      return socket.id;
    }

    /** The transport breaks, and the application has noticed. */
    async function breaksOff() {
      const gone = hears(there(socket.id), "disconnect");
      socket.io.engine.close();
      await gone;
    }

    const there = (id) => application.connections.findLast((connection) => connection.socket.id === id).socket;

    for (const transports of TRANSPORTS) {
      test(`over ${transports.join(", then ")}: what was missed comes, and the session is the same`, bounded, async () => {
        const id = await joined(transports);
        there(id).join("room");
        const heard = [];
        socket.on("news", (news) => heard.push(news));

        await breaksOff();
        application.io.of("/chat").to("room").emit("news", "missed");
        application.io.of("/chat").emit("news", Buffer.from("missed too"));
        await connected(socket);

        assert.equal(socket.recovered, true);
        assert.equal(socket.id, id);
        await eventually("what was missed", () => heard.length === 2);
        assert.equal(heard[0], "missed");
        assert.ok(Buffer.from(heard[1]).equals(Buffer.from("missed too")));
        assert.equal((await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", "back")).got, "back");
      });
    }

    test("does not spare the token: it is judged again, before the application hears of the session", bounded, async () => {
      const id = await joined(["websocket"]);
      const before = application.connections.length;
      await breaksOff();

      auth = { token: token("alice", { exp: Math.floor(Date.now() / 1000) - 3600 }) };
      const [error] = await hears(socket, "connect_error");
      assert.equal(error.data?.reason, "token_expired", error.message);
      assert.equal(application.connections.length, before);

      auth = { token: token("alice") };
      socket.connect();
      await connected(socket);
      assert.equal(socket.recovered, true);
      assert.equal(socket.id, id);
    });
  });
}
