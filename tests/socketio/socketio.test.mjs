// What users of the real Socket.IO server and client meet with Picket between them.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { Manager, io } from "socket.io-client";
import msgpackParser from "socket.io-msgpack-parser";
import { startApplication } from "./application.mjs";
import { PATIENCE_MS, bounded, connected as joined, eventually, hears } from "./patience.mjs";
import { HOME, startPicket } from "./picket.mjs";
import { token } from "./tokens.mjs";

let application;
let picket;
let open = [];
let lastAddress = 0;

const policy = {
  cors: { allowedOrigins: [HOME] },
  validation: {
    allowedEventTypes: ["chat:*", "binary:*", "ask:me", "cheap"],
    requireAuthentication: ["chat:private"],
    eventRoles: { "chat:moderate": ["moderator"] },
  },
  rateLimiting: { events: { cheap: { maxEvents: 2, windowMs: 60_000, per: "connection" } } },
  security: { blockSuspiciousIps: false, violationsBeforeClose: 3 },
};

/** Before and after the stories of a `describe`: an application whose server has this parser, and Picket before it. */
function guarded(name) {
  before(async () => {
    parser = PARSERS[name];
    application = await startApplication(parser && { parser });
    picket = await startPicket(application.port, { policy, route: { parser: name } });
  });
  after(async () => {
    await picket?.stop();
    await application?.stop();
  });
}

afterEach(() => {
  for (const socket of open) socket.disconnect();
  open = [];
});

/** The parsers of server and callers: each story is told once for each of these, */
const PARSERS = { default: undefined, msgpack: msgpackParser };
let parser;
/** and once for each of these transports. */
const TRANSPORTS = {
  websocket: ["websocket"],
  polling: ["polling"],
  "polling, then websocket": ["polling", "websocket"],
  "websocket, with polling to fall back on": ["websocket", "polling"],
};
/** Where each of them ends up. */
const lastTransport = () => (transports[0] === "polling" ? transports.at(-1) : transports[0]);
let transports;

/** Each caller has an address of its own. */
function options(extra = {}) {
  lastAddress += 1;
  const { extraHeaders, ...rest } = extra;
  return {
    transports,
    ...(parser && { parser }),
    forceNew: true,
    reconnection: false,
    timeout: PATIENCE_MS,
    extraHeaders: { Origin: HOME, "X-Forwarded-For": `198.51.100.${lastAddress}`, ...extraHeaders },
    ...rest,
  };
}

function caller(namespace = "/", extra = {}) {
  const socket = io(`${picket.url}${namespace}`, options(extra));
  open.push(socket);
  return socket;
}

const connected = (namespace, extra) => joined(caller(namespace, extra));

const seenOf = (event) => application.seen.filter((record) => record.event === event);

for (const name of Object.keys(PARSERS)) {
  for (const [title, choice] of Object.entries(TRANSPORTS)) {
    describe(`over ${title}, with the ${name} parser:`, () => {
      guarded(name);
      before(() => (transports = choice));

      describe("an honest client", () => {
        test("connects, and the application learns its address and connection", bounded, async () => {
          const socket = await connected("/", { extraHeaders: { "X-Forwarded-For": "203.0.113.9" } });

          const connection = application.connections.at(-1);
          assert.equal(connection.socket.id, socket.id, "the server's own socket id reaches the client");
          assert.match(connection.headers["x-forwarded-for"], /203\.0\.113\.9/);
          assert.ok(connection.headers["x-picket-connection"]);
          await eventually("the last transport", () => socket.io.engine.transport.name === lastTransport());
        });

        test("joins several namespaces over one connection", bounded, async () => {
          const manager = new Manager(picket.url, options());
          const sockets = ["/", "/chat", "/notifications"].map((namespace) => manager.socket(namespace));
          open.push(...sockets);
          await Promise.all(sockets.map((socket) => hears(socket, "connect")));

          for (const socket of sockets) {
            const answer = await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", { text: "hello" });
            assert.deepEqual(answer, { namespace: socket.nsp, got: { text: "hello" } });
          }
          assert.equal(new Set(sockets.map((socket) => socket.id)).size, 3, "a socket id per namespace");
        });

        test("is told of a namespace that the application does not have, in the application's words", bounded, async () => {
          const [error] = await hears(caller("/nowhere"), "connect_error");
          assert.equal(error.message, "Invalid namespace");
        });

        test("hears what the application sends to one namespace only", bounded, async () => {
          const manager = new Manager(picket.url, options());
          const [chat, notifications] = ["/chat", "/notifications"].map((namespace) => manager.socket(namespace));
          open.push(chat, notifications);
          await Promise.all([hears(chat, "connect"), hears(notifications, "connect")]);
          let misdirected = 0;
          chat.on("news", () => (misdirected += 1));

          application.io.of("/notifications").emit("news", { number: 1 });
          assert.deepEqual(await hears(notifications, "news"), [{ number: 1 }]);
          await chat.timeout(PATIENCE_MS).emitWithAck("chat:send", "a beacon behind the news");
          assert.equal(misdirected, 0);
        });

        test("gets acknowledgements, and gives them", bounded, async () => {
          const socket = await connected("/chat");
          assert.deepEqual(await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", [1, "two", null]), { namespace: "/chat", got: [1, "two", null] });

          socket.on("question", (question, acknowledge) => acknowledge({ answer: `my ${question.what}` }));
          assert.deepEqual(await socket.timeout(PATIENCE_MS).emitWithAck("ask:me"), { answer: "my name" });
        });

        test("sends and receives binary, in events and in acknowledgements", bounded, async () => {
          const socket = await connected();
          const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
          const back = hears(socket, "binary:back");

          const acknowledged = await socket.timeout(PATIENCE_MS).emitWithAck("binary:send", bytes);
          const [echo, facts] = await back;

          assert.ok(Buffer.from(acknowledged).equals(bytes));
          assert.ok(Buffer.from(echo).equals(bytes));
          assert.deepEqual(facts, { length: 256 });
          assert.ok(seenOf("binary:send").at(-1).parameters[0].equals(bytes));
        });

        test("has its honest text delivered as it was written", bounded, async () => {
          const socket = await connected();
          for (const text of ["a < b", "I <3 you", "R&D", "if (a<b && c>d) {}", "😀 e\u0301 שלום", "<b>bold</b>", ""]) {
            const answer = await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", { text });
            assert.equal(answer.got.text, text);
          }
        });

        test("survives many messages at once, each answered once and in order", bounded, async () => {
          const socket = await connected();
          const numbers = Array.from({ length: 40 }, (_, number) => number);
          const answers = await Promise.all(numbers.map((number) => socket.timeout(PATIENCE_MS).emitWithAck("chat:send", number)));
          assert.deepEqual(answers.map((answer) => answer.got), numbers);
        });

        test("comes back by itself when its connection broke", bounded, async () => {
          const socket = await connected("/chat", { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
          const first = socket.id;

          application.connections.findLast((connection) => connection.socket.id === first).socket.conn.close();
          await hears(socket, "disconnect");
          await hears(socket, "connect");

          assert.notEqual(socket.id, first);
          assert.equal((await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", "back")).got, "back");
        });

        test("leaves, and the application hears of it", bounded, async () => {
          const socket = await connected("/chat");
          const there = application.connections.findLast((connection) => connection.socket.id === socket.id).socket;
          const left = hears(there, "disconnect");
          socket.disconnect();
          await left;
        });

        test("is told when the application disconnects it", bounded, async () => {
          const socket = await connected("/chat");
          const told = hears(socket, "disconnect");
          application.connections.findLast((connection) => connection.socket.id === socket.id).socket.disconnect();
          assert.equal((await told)[0], "io server disconnect");
        });
      });

      describe("who someone is", () => {
        test("a token in auth makes a user, and the application gets auth unchanged", bounded, async () => {
          const auth = { token: token("alice"), theme: "dark" };
          const socket = await connected("/chat", { auth });

          assert.deepEqual(await socket.timeout(PATIENCE_MS).emitWithAck("chat:private", "x"), { privately: "x" });
          assert.deepEqual(application.connections.at(-1).auth, auth);
        });

        test("a bad token is a connect_error with its reason, and the application never hears of it", bounded, async () => {
          const before = application.connections.length;
          for (const [bad, reason] of [
            ["nonsense", "token_invalid"],
            [token("alice", {}, "another-secret-of-sufficient-length-00000"), "token_invalid"],
            [token("alice", { aud: "billing" }), "token_invalid"],
            [token("alice", { exp: Math.floor(Date.now() / 1000) - 3600 }), "token_expired"],
          ]) {
            const [error] = await hears(caller("/chat", { auth: { token: bad } }), "connect_error");
            assert.equal(error.data?.reason, reason, error.message);
            assert.ok(error.message);
          }
          assert.equal(application.connections.length, before);
        });

        test("a foreign origin does not come in", bounded, async () => {
          const [error] = await hears(caller("/", { extraHeaders: { Origin: "https://evil.example" } }), "connect_error");
          assert.ok(error instanceof Error);
        });

        test("each namespace has the identity of its own token", bounded, async () => {
          const manager = new Manager(picket.url, options());
          const known = manager.socket("/chat", { auth: { token: token("alice") } });
          const anonymous = manager.socket("/notifications");
          open.push(known, anonymous);
          await Promise.all([hears(known, "connect"), hears(anonymous, "connect")]);

          const refusal = hears(anonymous, "error");
          anonymous.emit("chat:private", "anonymous");
          assert.equal((await refusal)[0].reason, "login_required");
          known.emit("chat:private", "known");
          await eventually("the user's event", () => seenOf("chat:private").some((record) => record.parameters[0] === "known"));
          assert.ok(!seenOf("chat:private").some((record) => record.parameters[0] === "anonymous"));
        });
      });

      describe("a refused event", () => {
        test("is answered with the error event, and the connection stays", bounded, async () => {
          const socket = await connected("/chat");
          const refusal = hears(socket, "error");
          socket.emit("admin:drop", { table: "users" });

          const [said] = await refusal;
          assert.equal(said.message, "Event rejected by security policy");
          assert.equal(said.event, "admin:drop");
          assert.equal(said.reason, "unknown_event");
          assert.equal((await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", "still here")).got, "still here");
          assert.equal(seenOf("admin:drop").length, 0);
        });

        test("answers its acknowledgement with the error", bounded, async () => {
          const socket = await connected("/chat", { auth: { token: token("alice") } });
          const answer = await socket.timeout(PATIENCE_MS).emitWithAck("chat:moderate", { kick: "bob" });

          assert.equal(answer.error.reason, "role_required");
          assert.equal(answer.error.event, "chat:moderate");
          assert.equal(answer.error.message, "Event rejected by security policy");
          assert.equal(seenOf("chat:moderate").length, 0);
        });

        test("is allowed to those who have the role", bounded, async () => {
          const socket = await connected("/chat", { auth: { token: token("carol", { role: ["member", "moderator"] }) } });
          socket.emit("chat:moderate", { kick: "mallory" });
          await eventually("the moderator's event", () => seenOf("chat:moderate").some((record) => record.parameters[0].kick === "mallory"));
        });

        test("says when to try again where waiting helps", bounded, async () => {
          const socket = await connected();
          socket.emit("cheap", 1);
          socket.emit("cheap", 2);
          const answer = await socket.timeout(PATIENCE_MS).emitWithAck("cheap", 3);

          assert.equal(answer.error.reason, "event_rate");
          assert.ok(answer.error.retryAfterMs > 0 && answer.error.retryAfterMs <= 61_000, JSON.stringify(answer));
          await eventually("those before it", () => seenOf("cheap").length === 2);
          assert.deepEqual(seenOf("cheap").map((record) => record.parameters[0]), [1, 2]);
        });

        test("too often ends the connection", bounded, async () => {
          const socket = await connected("/chat");
          const refusals = [];
          socket.on("error", (refusal) => refusals.push(refusal.reason));
          const gone = hears(socket, "disconnect");
          for (let times = 0; times < 3; times += 1) socket.emit("admin:drop");

          const [reason, details] = await gone;
          assert.equal(reason, "transport close");
          if (transports[0] === "websocket") assert.equal(details.context.code, 1008, "closed by policy");
          assert.deepEqual(refusals, ["unknown_event", "unknown_event", "unknown_event"]);
        });

        test("with binary attached is refused as a whole, and the next event is read right", bounded, async () => {
          const socket = await connected("/chat");
          const refusal = hears(socket, "error");
          socket.emit("admin:upload", Buffer.from("attachment"), { more: Buffer.from("second") });

          assert.equal((await refusal)[0].event, "admin:upload");
          assert.equal((await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", "after it")).got, "after it");
          assert.equal(seenOf("admin:upload").length, 0);
        });
      });

      describe("a block", () => {
        test("cuts an open session at once, and keeps its address out", bounded, async () => {
          const address = `203.0.113.${100 + Object.values(TRANSPORTS).indexOf(transports)}`;
          const extraHeaders = { "X-Forwarded-For": address };
          const socket = await connected("/chat", { extraHeaders });
          await eventually("the last transport", () => socket.io.engine.transport.name === lastTransport());
          const there = application.connections.findLast((connection) => connection.socket.id === socket.id).socket;
          const gone = hears(socket, "disconnect");
          const left = hears(there, "disconnect");

          await picket.block(address);
          // A client that is just between two polls meets the block at the next one.
          assert.match((await gone)[0], /^transport (close|error)$/);
          await left;
          const [error] = await hears(caller("/chat", { extraHeaders }), "connect_error");
          assert.ok(error instanceof Error);
        });
      });

      describe("a text with active markup", () => {
        test("arrives without it, beside binary too", bounded, async () => {
          const socket = await connected("/chat");
          const answer = await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", { text: "hi <script>alert(1)</script><b>there</b>", plain: "a < b" });
          assert.equal(answer.got.text, "hi <b>there</b>");
          assert.equal(answer.got.plain, "a < b");

          const bytes = Buffer.from([0, 1, 2, 255]);
          const mixed = await socket.timeout(PATIENCE_MS).emitWithAck("chat:send", { file: bytes, name: "<img src=x onerror=alert(1)>cat" });
          assert.ok(Buffer.from(mixed.got.file).equals(bytes));
          assert.ok(mixed.got.name.includes("cat") && !mixed.got.name.includes("onerror"), mixed.got.name);
        });
      });
    });
  }
}

describe("over polling", () => {
  guarded("default");

  test("the application's cookies reach the client, and come back to it", bounded, async () => {
    const headers = { origin: HOME, "x-forwarded-for": "203.0.113.200", cookie: "backend=two" };
    const answer = await fetch(`${picket.url}/socket.io/?EIO=4&transport=polling`, { headers });

    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("set-cookie"), "backend=one; Path=/socket.io/");
    const { sid } = JSON.parse((await answer.text()).slice(1));
    const post = await fetch(`${picket.url}/socket.io/?EIO=4&transport=polling&sid=${sid}`, { method: "POST", headers, body: "40" });
    assert.equal(await post.text(), "ok");
    await eventually("the connection", () => application.connections.some((connection) => connection.headers.cookie === "backend=two"));
  });
});
