// Waiting for what is expected, and no longer than a bound.

import assert from "node:assert/strict";

export const PATIENCE_MS = 5000;
/** The bound of a story. */
export const bounded = { timeout: 15_000 };

/** The parameters of the next such event. Not node's `once`: there an event named `error` fails the wait for any other. */
export function hears(emitter, event, why = () => undefined, patienceMs = PATIENCE_MS) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} within ${patienceMs} ms`, { cause: why() })), patienceMs);
    emitter.once(event, (...parameters) => {
      clearTimeout(timer);
      resolve(parameters);
    });
  });
}

/** Waits until `ask` has an answer. */
export async function eventually(what, ask, patienceMs = PATIENCE_MS) {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    assert.ok(Date.now() < deadline, `${what}: not within ${patienceMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Joined, or failed with why it could not. */
export async function connected(socket, patienceMs = PATIENCE_MS) {
  let refusal;
  socket.once("connect_error", (error) => (refusal = error));
  await hears(socket, "connect", () => refusal, patienceMs);
  return socket;
}
