// The application behind the gateway: a real Socket.IO server that records what reaches it.

import { createServer } from "node:http";
import { once } from "node:events";
import { Server } from "socket.io";

/** With these options of Socket.IO's server beyond its defaults. */
export async function startApplication(options = {}) {
  const http = createServer();
  const io = new Server(http, { serveClient: false, ...options });
  io.engine.on("initial_headers", (headers) => (headers["set-cookie"] = "backend=one; Path=/socket.io/"));
  const seen = [];
  const connections = [];
  for (const name of ["/", "/chat", "/notifications"]) {
    io.of(name).on("connection", (socket) => {
      connections.push({ namespace: name, auth: socket.handshake.auth, headers: socket.handshake.headers, socket });
      socket.onAny((event, ...parameters) => {
        seen.push({ namespace: name, event, parameters: parameters.filter((parameter) => typeof parameter !== "function") });
      });
      socket.on("chat:send", (message, acknowledge) => acknowledge?.({ namespace: name, got: message }));
      socket.on("chat:private", (message, acknowledge) => acknowledge?.({ privately: message }));
      socket.on("binary:send", (bytes, acknowledge) => {
        socket.emit("binary:back", bytes, { length: bytes.length });
        acknowledge?.(bytes);
      });
      socket.on("ask:me", async (acknowledge) => {
        acknowledge(await socket.timeout(5000).emitWithAck("question", { what: "name" }));
      });
    });
  }
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  return {
    io,
    seen,
    connections,
    port: http.address().port,
    async stop() {
      await io.close();
    },
  };
}
