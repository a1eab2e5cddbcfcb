// The checks of Picket's production policy, as a careful team would write them in JavaScript: the limits of a connection in
// memory, the limits over all processes in Redis by rate-limiter-flexible, and no work that the messages do not need.

import { Redis } from "ioredis";
import jwt from "jsonwebtoken";
import { RateLimiterRedis } from "rate-limiter-flexible";
import sanitizeHtml from "sanitize-html";

const { REDIS_URL, JWT_SECRET, JWT_ISSUER, JWT_AUDIENCE, ORIGIN, LIMIT, CONNECTIONS_LIMIT } = process.env;
const PAYLOAD_BYTES_MAX = 1_048_576;
const TEXT_MAX = 10_000;
const DEPTH_MAX = 64;
const CONNECTIONS_PER_USER = 20;

const redis = new Redis(REDIS_URL, { enableAutoPipelining: true });
const limiter = (keyPrefix, points) =>
  new RateLimiterRedis({ storeClient: redis, keyPrefix, points, duration: 60, inMemoryBlockOnConsumed: points });
const connections = limiter("connections", Number(CONNECTIONS_LIMIT));
const messages = limiter("messages", Number(LIMIT));
const counts = { admitted: 0, cleared: 0, refused: 0 };

export class Refusal extends Error {
  constructor(reason, status) {
    super(reason);
    this.status = status;
  }
}

/** What the upgrade request can be held to. */
export async function screen(request) {
  const address = request.headers["x-forwarded-for"] ?? request.socket.remoteAddress;
  if (request.headers.origin !== ORIGIN) throw refused(address, "origin_not_allowed", 403);
  await connections.consume(address).catch(() => {
    throw refused(address, "connection_rate", 429);
  });
  return address;
}

/** A session of the user whose token this is. */
export async function admit(address, token) {
  let user;
  try {
    user = jwt.verify(token, JWT_SECRET, { algorithms: ["HS256"], issuer: JWT_ISSUER, audience: JWT_AUDIENCE }).sub;
  } catch {
    throw refused(address, "token_invalid", 401);
  }
  if ((await redis.incr(`sockets:${user}`)) > CONNECTIONS_PER_USER) {
    await redis.decr(`sockets:${user}`);
    throw refused(address, "too_many_connections", 429);
  }
  counts.admitted += 1;
  audit("CONNECTION_ATTEMPT", address, "admitted");
  return { user, address, events: counter(Number(LIMIT), 60_000), burst: counter(Number(LIMIT), 1000) };
}

export function leave(session) {
  redis.decr(`sockets:${session.user}`).catch(report);
}

/** The limits of one event. Redis answers in order, so events stay in order. */
export async function spend(session) {
  const now = Date.now();
  if (!session.events(now) || !session.burst(now)) throw refused(session.address, "event_rate");
  await messages.consume(session.user).catch(() => {
    throw refused(session.address, "message_rate");
  });
}

/** The payload, or the same with its active texts sanitised. */
export function clear(session, payload) {
  const cleared = judge(payload, 1, session.address);
  counts.cleared += 1;
  return cleared;
}

export function parse(session, data) {
  if (data.length > PAYLOAD_BYTES_MAX) throw refused(session.address, "payload_too_large");
  try {
    return JSON.parse(data.toString());
  } catch {
    throw refused(session.address, "malformed");
  }
}

/** A copy only where something had to be changed. */
function judge(value, depth, address) {
  if (typeof value === "string") {
    if (value.length > TEXT_MAX) throw refused(address, "text_too_long");
    return /[<>&\0]/.test(value) ? sanitizeHtml(value) : value;
  }
  if (typeof value !== "object" || value === null) return value;
  if (depth > DEPTH_MAX) throw refused(address, "too_deep");
  let copy;
  for (const name of Object.keys(value)) {
    if (name === "__proto__" || name === "constructor") throw refused(address, "hostile_content");
    const cleared = judge(value[name], depth + 1, address);
    if (cleared !== value[name]) {
      copy ??= Array.isArray(value) ? [...value] : { ...value };
      copy[name] = cleared;
    }
  }
  return copy ?? value;
}

function counter(limit, windowMs) {
  let [start, count] = [0, 0];
  return (now) => {
    if (now - start >= windowMs) [start, count] = [now, 0];
    count += 1;
    return count <= limit;
  };
}

function refused(address, reason, status) {
  counts.refused += 1;
  audit("REFUSED", address, reason);
  return new Refusal(reason, status);
}

function audit(type, address, reason) {
  redis.xadd("audit", "MAXLEN", "~", 100_000, "*", "type", type, "ip", address, "reason", reason).catch(report);
}

function report(error) {
  console.error(error.message);
}

export function metrics() {
  return Object.entries(counts).map(([name, count]) => `gateway_${name}_total ${count}\n`).join("");
}

/** Resolves when Redis answers. */
export const ready = () => redis.ping();
