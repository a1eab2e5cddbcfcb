// The gateway under test: a real process before the application, on ports of its own.

import { spawn } from "node:child_process";
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const ADMIN = "warden";
const PASSWORD = "a-long-password-of-the-stories";
const STARTS_WITHIN_MS = 20_000;
export const SECRET = "an-hmac-secret-of-the-stories-0123456789abcdef";
export const ISSUER = { issuer: "https://id.example.com", audience: "chat", algorithms: ["HS256"], secret: SECRET };
export const HOME = "https://app.example.com";

/** Starts Picket before `upstreamPort`, with these settings beyond the stories' own; resolves when all listeners are open. */
export async function startPicket(upstreamPort, { policy, route, node } = {}) {
  const directory = mkdtempSync(join(tmpdir(), "picket-socketio-"));
  const config = join(directory, "picket.yaml");
  const data = join(directory, "data");
  mkdirSync(data);
  writeFileSync(
    config,
    JSON.stringify({
      environment: "production",
      state: { url: "memory://" },
      node: {
        id: "edge-1",
        listen: "127.0.0.1:0",
        opsListen: "127.0.0.1:0",
        trustedProxies: ["127.0.0.1/32"],
        drain: { graceMs: 100, spreadMs: 100 },
        ...node,
        routes: [{ path: "/socket.io/", upstream: `http://127.0.0.1:${upstreamPort}`, protocol: "socketio", ...route }],
      },
      auth: { jwt: { issuers: [ISSUER] } },
      coordinator: { listen: "127.0.0.1:0", opsListen: "127.0.0.1:0" },
      policy: {
        cors: { allowedOrigins: [HOME] },
        security: { blockSuspiciousIps: false },
        ...policy,
      },
    }),
  );
  const process_ = spawn(process.env.PICKET_BIN, ["standalone", "--config", config, "--data-dir", data], {
    cwd: directory,
    env: { ...cleanEnvironment(), SOCKET_ADMIN_USERNAME: ADMIN, SOCKET_ADMIN_PASSWORD: PASSWORD },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const said = [];
  const listeners = new Map();
  const ended = new Promise((resolve) => process_.once("exit", resolve));
  await new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`${why}:\n${said.join("\n")}`));
    const timer = setTimeout(() => fail("picket did not open its listeners"), STARTS_WITHIN_MS);
    process_.once("error", (error) => fail(error.message));
    process_.once("exit", (code) => fail(`picket ended with ${code}`));
    createInterface({ input: process_.stderr }).on("line", (line) => {
      said.push(line);
      const listener = opened(line);
      if (listener) listeners.set(listener.name, listener.address);
      if (["gateway", "ops", "management"].every((name) => listeners.has(name))) {
        clearTimeout(timer);
        resolve();
      }
    });
  });
  process_.removeAllListeners("error");
  return {
    url: `http://${listeners.get("gateway")}`,
    gateway: listeners.get("gateway"),
    ops: listeners.get("ops"),
    said,
    /** How many clients it has open. */
    async connections() {
      const metrics = await (await fetch(`http://${listeners.get("ops")}/metrics`)).text();
      const counts = metrics.matchAll(/^picket_connections_active(?:\{[^}]*\})? (\d+)$/gm);
      return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
    },
    /** Blocks an address by the management API. */
    async block(ip) {
      const answer = await fetch(`http://${listeners.get("management")}/api/security/block-ip`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Basic ${btoa(`${ADMIN}:${PASSWORD}`)}` },
        body: JSON.stringify({ ip, reason: "of the stories" }),
      });
      if (!answer.ok) throw new Error(`block-ip: ${answer.status} ${await answer.text()}`);
    },
    async stop() {
      process_.kill("SIGKILL");
      await ended;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function opened(line) {
  let parsed;
  try {
    parsed = JSON.parse(line);
  } catch {
    return undefined;
  }
  const fields = parsed.fields ?? parsed;
  return fields.message === "listening" ? { name: fields.listener, address: fields.address } : undefined;
}

function cleanEnvironment() {
  const foreign = /^(PICKET_|SOCKET_ADMIN_|OTEL_|WHITE_LIST_URLS$|REDIS_URL$|RUST_LOG$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)));
}
