// A ws proxy with the same checks: PORT, UPSTREAM and what checks.mjs reads come from the environment.

import { createServer } from "node:http";
import { WebSocket, WebSocketServer } from "ws";
import { Refusal, admit, clear, leave, metrics, parse, ready, screen, spend } from "./checks.mjs";

const { PORT, UPSTREAM } = process.env;
const PLAIN = { perMessageDeflate: false, maxPayload: 1_048_576 };
const server = createServer((request, response) => response.end(metrics()));
const sockets = new WebSocketServer({ ...PLAIN, noServer: true });

server.on("upgrade", async (request, stream, head) => {
  stream.on("error", () => stream.destroy());
  try {
    const address = await screen(request);
    const session = await admit(address, request.headers.authorization?.replace(/^Bearer /, ""));
    const upstream = new WebSocket(UPSTREAM + request.url, { ...PLAIN, headers: { "x-user": session.user } });
    upstream.once("error", () => stream.destroy());
    upstream.once("open", () => {
      sockets.handleUpgrade(request, stream, head, (client) => relay(session, client, upstream));
    });
  } catch (error) {
    refuse(stream, error);
  }
});

function relay(session, client, upstream) {
  client.on("message", async (data, isBinary) => {
    try {
      if (isBinary) throw new Refusal("type_not_allowed");
      await spend(session);
      const payload = parse(session, data);
      const cleared = clear(session, payload);
      upstream.send(cleared === payload ? data : JSON.stringify(cleared), { binary: false });
    } catch (error) {
      client.send(JSON.stringify({ type: "error", reason: error.message }));
    }
  });
  upstream.on("message", (data, isBinary) => client.send(data, { binary: isBinary }));
  client.once("close", () => {
    leave(session);
    upstream.close();
  });
  upstream.once("close", () => client.close());
  client.on("error", () => client.terminate());
  upstream.on("error", () => upstream.terminate());
}

function refuse(stream, error) {
  if (!(error instanceof Refusal)) console.error(error);
  const body = JSON.stringify({ reason: error.message });
  stream.end(`HTTP/1.1 ${error.status ?? 500} Refused\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
}

await ready();
server.listen(Number(PORT), "127.0.0.1", 4096);
