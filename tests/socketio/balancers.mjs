// Real load balancers before Picket's nodes, each with the configuration that Picket gives its users.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "./patience.mjs";

const STARTS_WITHIN_MS = 10_000;
const traefik = new URL(".venv/bin/traefik", import.meta.url).pathname;

/** Where each node answers for its health; the nodes have addresses of their own. */
const OPS_PORT = await freePort();
export const NODES = ["127.0.0.11", "127.0.0.12"].map((address, index) => ({
  id: `edge-${index + 1}`,
  listen: `${address}:0`,
  opsListen: `${address}:${OPS_PORT}`,
}));

/** What each is called, how Picket has to be set up behind it, and how it is started before two nodes. */
export const BALANCERS = {
  haproxy: {
    node: { proxyProtocol: "required" },
    start: (nodes) =>
      balancer((at, address) => {
        const config = configuration("haproxy/picket.cfg", [
          ["bind :80", `bind ${address}`],
          ["10.0.0.1:8080 cookie edge-1 port 8081", `${nodes[0].gateway} cookie edge-1 port ${OPS_PORT}`],
          ["10.0.0.2:8080 cookie edge-2 port 8081", `${nodes[1].gateway} cookie edge-2 port ${OPS_PORT}`],
        ]);
        writeFileSync(at("haproxy.cfg"), config);
        return ["haproxy", ["-db", "-f", at("haproxy.cfg")]];
      }),
  },
  traefik: {
    node: {},
    start: (nodes) =>
      balancer((at, address) => {
        const entry = [[":80", address], ["/etc/traefik/picket.yml", at("picket.yml")]];
        writeFileSync(at("traefik.yml"), configuration("traefik/traefik.yml", entry));
        const service = [["http://10.0.0.1:8080", nodes[0].url], ["http://10.0.0.2:8080", nodes[1].url], ["port: 8081", `port: ${OPS_PORT}`]];
        writeFileSync(at("picket.yml"), configuration("traefik/picket.yml", service));
        return [traefik, [`--configFile=${at("traefik.yml")}`]];
      }),
  },
  nginx: {
    node: {},
    start: (nodes) =>
      balancer((at, address) => {
        const site = configuration("nginx/picket.conf", [
          ["listen 80;", `listen ${address};`],
          ["server 10.0.0.1:8080", `server ${nodes[0].gateway}`],
          ["server 10.0.0.2:8080", `server ${nodes[1].gateway}`],
        ]);
        const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${at(name)};`);
        // One process, so that its end is the end of all of it.
        const main = `daemon off; master_process off; pid ${at("nginx.pid")}; error_log ${at("error.log")};
          events { worker_connections 256; }
          http { access_log off; ${temporary.join(" ")}\n${site}\n}`;
        writeFileSync(at("nginx.conf"), main);
        return ["nginx", ["-p", at(""), "-c", at("nginx.conf"), "-e", at("error.log")]];
      }),
  },
};

/** A file of `deploy/` with these texts replaced, each of which must be there. */
function configuration(path, replacements) {
  return replacements.reduce((text, [old, replacement]) => {
    assert.ok(text.includes(old), `no ${old} in ${path}`);
    return text.replace(old, replacement);
  }, readFileSync(new URL(`../../deploy/${path}`, import.meta.url), "utf8"));
}

async function balancer(configure) {
  const directory = mkdtempSync(join(tmpdir(), "picket-balancer-"));
  const address = `127.0.0.1:${await freePort()}`;
  const [command, parameters] = configure((name) => join(directory, name), address);
  const process_ = spawn(command, parameters, { cwd: directory, stdio: ["ignore", "pipe", "pipe"] });
  const said = [];
  for (const output of [process_.stdout, process_.stderr]) output.on("data", (data) => said.push(data.toString()));
  const ended = new Promise((resolve) => process_.once("exit", resolve));
  process_.once("error", (error) => said.push(`${command}: ${error.message}; \`tests/run socketio\` installs it\n`));
  const url = `http://${address}`;
  const answers = async () => {
    assert.equal(process_.exitCode, null, said.join(""));
    // Traefik answers 404 itself before it has read its routes; Picket answers 400 to what is no Engine.IO.
    return (await fetch(`${url}/socket.io/`).catch(() => undefined))?.status === 400;
  };
  await eventually(`${command} with a node behind it`, answers, STARTS_WITHIN_MS).catch((error) => {
    process_.kill("SIGKILL");
    throw new Error(said.join(""), { cause: error });
  });
  return {
    url,
    async stop() {
      process_.kill("SIGKILL");
      await ended;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
