// Blocks in force, whom a block would hit, blocking and unblocking, and how one address stands.

import { get, post } from "./api.js";
import { failure, field, h, notice, show, table, time } from "./dom.js";

export function blocks(place, parameters) {
  const ip = h("input", { name: "ip", required: true, placeholder: "192.0.2.7 or 192.0.2.0/24", value: parameters.get("ip") ?? "" });
  const reason = h("input", { name: "reason", required: true, maxlength: 500 });
  const minutes = h("input", { name: "minutes", type: "number", min: 1, placeholder: "until lifted" });
  const message = h("div");
  const list = h("div");
  const standing = h("div");

  const load = async () => {
    try {
      show(list, inForce(await get("/blocks"), lift));
    } catch (error) {
      show(list, failure(error));
    }
  };
  const change = async (path, body, done) => {
    try {
      await post(path, body);
      show(message, notice("good", done));
      await load();
    } catch (error) {
      show(message, failure(error));
    }
  };
  const block = async (event) => {
    event.preventDefault();
    const duration = minutes.value === "" ? {} : { durationMs: Math.round(Number(minutes.value) * 60_000) };
    const body = { ip: ip.value.trim(), reason: reason.value, ...duration };
    const go = (forced) => () => {
      show(standing);
      change("/block-ip", { ...body, force: forced }, `${body.ip} is blocked`);
    };
    try {
      const found = await post("/block-ip?dryRun=true", body);
      const forced = found.objection !== null;
      show(message);
      show(standing, preview(found), h("div", { class: "buttons" },
        h("button", { class: forced ? "danger" : "", onclick: go(forced) }, forced ? "Block all the same" : "Block"),
        h("button", { class: "quiet", onclick: () => show(standing) }, "Cancel")));
    } catch (error) {
      show(message, failure(error));
    }
  };
  const lift = (network) => change("/unblock-ip", { ip: network, reason: "dashboard" }, `${network} is unblocked`);
  const look = async () => {
    try {
      show(standing, reputation(await get(`/reputation/${encodeURIComponent(ip.value.trim())}`)));
    } catch (error) {
      show(standing, failure(error));
    }
  };

  show(place,
    h("section", {}, h("h2", {}, "Block an address"), message,
      h("form", { class: "row", onsubmit: block },
        field("Address or prefix", ip), field("Reason", reason), field("Minutes", minutes),
        h("button", {}, "Whom would it hit?"), h("button", { type: "button", class: "quiet", onclick: look }, "Look up")),
      standing),
    h("section", {}, h("h2", {}, "Blocks in force"), list));
  load();
  if (ip.value !== "") look();
}

/** whom a block would hit */
function preview(found) {
  const { replaces, wider, narrower } = found.conflicts;
  const counted = (count) => (count === null ? "not counted" : count);
  return h("div", { class: "notice" },
    h("p", {}, `A block of ${found.block.ip} ${found.block.until ? `until ${new Date(found.block.until).toLocaleString()}` : "until it is lifted"} would hit:`),
    found.objection && h("p", { class: "bad" }, `Most likely a mistake: ${found.objection}.`),
    found.allowListed && h("p", { class: "warn" }, "An address of the allow list is among them."),
    replaces && h("p", {}, `It takes the place of the block by ${replaces.by}: ${replaces.reason}`),
    wider.map((block) => h("p", {}, `${block.ip} is blocked already by ${block.by}: ${block.reason}`)),
    narrower > 0 && h("p", {}, `${narrower} blocks of parts of it are in force.`),
    h("p", {}, `Anonymous connections open now: ${counted(found.anonymousConnections)}. Users seen in the last day: ${found.users.length}, of whom nothing counts against ${found.cleanUsers}.`),
    table([
      { title: "User", cell: (user) => user.userId },
      { title: "Last seen", cell: (user) => time(user.lastSeen), kind: "time" },
      { title: "Clean", cell: (user) => h("span", { class: `badge ${user.clean ? "good" : "bad"}` }, user.clean ? "clean" : "offends") },
      { title: "Open connections", cell: (user) => counted(user.connections), kind: "number" },
    ], found.users, "no user was seen there"));
}

function inForce({ blocks: entries, total }, lift) {
  return [
    h("p", { class: "muted" }, `${total} in force`),
    table([
      { title: "Address", cell: (block) => block.ip },
      { title: "Refuses", cell: refuses },
      { title: "Reason", cell: (block) => block.reason },
      { title: "By", cell: (block) => `${block.by} (${block.origin})` },
      { title: "Since", cell: (block) => time(block.since), kind: "time" },
      { title: "Until", cell: (block) => time(block.until), kind: "time" },
      { title: "", cell: (block) => h("button", { class: "quiet", onclick: () => lift(block.ip) }, "Unblock") },
    ], entries, "nobody is blocked"),
  ];
}

function refuses(block) {
  const named = block.users ?? [];
  return block.scope === "everyone" ? "everyone" : ["anonymous", ...named].join(", ");
}

function reputation(standing) {
  const parts = Object.entries(standing.parts).map(([reason, points]) => `${reason} ${points}`).join(", ");
  return h("div", { class: "notice" },
    h("p", {}, `${standing.subject}: score ${standing.score} of ${standing.threshold}${parts ? ` (${parts})` : ""}; blocked automatically ${standing.relapses} times.`),
    standing.block && h("p", { class: "bad" }, `Blocked by ${standing.block.by}: ${standing.block.reason}`),
    standing.allowListed && h("p", {}, "On the allow list."),
    standing.trustedProxy && h("p", {}, "A trusted proxy."),
    standing.users.length > 0 && h("p", {}, `Users seen in the last day: ${standing.users.map((user) => user.userId).join(", ")}`),
    h("p", {}, h("a", { href: `#audit?ip=${encodeURIComponent(standing.subject)}` }, `${standing.history.length} newest records`)));
}
