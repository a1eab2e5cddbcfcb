// A Socket.IO server that echoes: with CHECKS=on it checks in its own process, with CHECKS=off it is what remains.

import { createServer } from "node:http";
import { Server } from "socket.io";

const { PORT, CHECKS } = process.env;
const server = createServer();
const io = new Server(server, { transports: ["polling", "websocket"], serveClient: false });

if (CHECKS === "on") {
  const { admit, clear, leave, ready, screen, spend } = await import("./checks.mjs");
  await ready();
  io.engine.opts.allowRequest = (request, decide) => {
    screen(request).then(
      () => decide(null, true),
      (refusal) => decide(refusal.message, false),
    );
  };
  io.use(async (socket, next) => {
    try {
      const { headers, address } = socket.handshake;
      socket.data.session = await admit(headers["x-forwarded-for"] ?? address, socket.handshake.auth.token);
      socket.once("disconnect", () => leave(socket.data.session));
      next();
    } catch (refusal) {
      next(refusal);
    }
  });
  io.on("connection", (socket) => {
    socket.use(async (packet, next) => {
      try {
        await spend(socket.data.session);
        for (let index = 1; index < packet.length; index += 1) packet[index] = clear(socket.data.session, packet[index]);
        next();
      } catch (refusal) {
        socket.emit("error", { reason: refusal.message });
      }
    });
  });
}

io.on("connection", (socket) => {
  socket.on("chat:message", (message) => socket.emit("chat:message", message));
});
server.listen(Number(PORT), "127.0.0.1", 4096);
