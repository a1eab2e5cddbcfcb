// Of deploy/compose.yaml: a chat that knows nothing of Picket. It says to everybody what anybody says.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Server } from "socket.io";

const library = dirname(createRequire(import.meta.url).resolve("socket.io/package.json"));
const script = readFileSync(join(library, "client-dist/socket.io.min.js"));
const page = `<!doctype html><meta charset="utf-8"><title>Chat</title>
<script src="/client.js"></script>
<form><input autofocus><button>Say</button></form><ul></ul>
<script>
    const socket = io();
    const show = (text) => document.querySelector("ul").prepend(Object.assign(document.createElement("li"), { textContent: text }));
    document.querySelector("form").onsubmit = (event) => {
        event.preventDefault();
        socket.emit("chat", document.querySelector("input").value);
        event.target.reset();
    };
    socket.on("chat", show);
    socket.on("error", ({ reason }) => show("refused: " + reason));
    socket.on("connect_error", (error) => show("not connected: " + error.message));
</script>`;

const http = createServer((request, answer) => {
    const [kind, body] = request.url === "/client.js" ? ["text/javascript", script] : ["text/html", page];
    answer.setHeader("content-type", kind).end(body);
});
const sockets = new Server(http, { serveClient: false });
sockets.on("connection", (socket) => socket.on("chat", (text) => sockets.emit("chat", text)));
http.listen(Number(process.env.PORT ?? 3000));
process.once("SIGTERM", () => process.exit(0));
