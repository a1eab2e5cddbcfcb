// The first look: health, live numbers, refusals over time, who causes them.

import { get } from "./api.js";
import { follow } from "./stream.js";
import { chart } from "./chart.js";
import { failure, h, show, table } from "./dom.js";

const PERIOD_MS = 10_000;
const TILES = [
  ["activeConnections", "open connections"],
  ["authenticatedConnections", "of them logged in"],
  ["anonymousConnections", "of them anonymous"],
  ["totalConnections", "connections since the start"],
  ["blockedAttempts", "refused attempts"],
  ["rateLimitViolations", "over a limit"],
  ["payloadViolations", "bad payloads"],
  ["suspiciousActivities", "suspicious"],
];

export function overview(place) {
  const state = h("div");
  const numbers = h("div", { class: "tiles" });
  const content = h("div");
  show(place, state, numbers, content);
  let stopped = false;
  let timer;
  const refresh = async () => {
    try {
      const [data, health] = await Promise.all([get("/dashboard"), get("/health")]);
      if (stopped) return;
      show(state, healthLine(health));
      show(numbers, tiles(data.metrics));
      show(content, body(data));
    } catch (error) {
      if (stopped) return;
      show(state, failure(error));
    }
    if (!stopped) timer = setTimeout(refresh, PERIOD_MS);
  };
  refresh();
  const close = follow({}, { metrics: (metrics) => show(numbers, tiles(metrics)) });
  return () => {
    close();
    stopped = true;
    clearTimeout(timer);
  };
}

const TONES = { healthy: "good", warning: "warn", degraded: "bad" };

function healthLine(health) {
  const issues = health.issues.map((issue) => h("li", {}, issue.message));
  return h("section", {}, h("h2", {}, "Health ", h("span", { class: `badge ${TONES[health.status] ?? ""}` }, health.status)), issues.length > 0 && h("ul", {}, issues));
}

function tiles(metrics) {
  return TILES.map(([key, label]) => h("div", { class: "tile" }, h("strong", {}, metrics?.[key] ?? "–"), h("span", {}, label)));
}

function body({ analytics, timeSeries }) {
  const counts = (title, entries) => h("section", {}, h("h2", {}, title), table([
    { title: "Name", cell: ([name]) => name },
    { title: "Records", cell: ([, count]) => count, kind: "number" },
  ], entries));
  const sorted = (object) => Object.entries(object).sort((a, b) => b[1] - a[1]);
  return [
    h("section", {}, h("h2", {}, "Last 24 hours"), chart(timeSeries, "audit records over time")),
    counts("Refusals by reason, last 24 hours", sorted(analytics.reasonCounts)),
    counts("Noticed and passed, last 24 hours", sorted(analytics.noticedCounts)),
    h("section", {}, h("h2", {}, "Addresses with the most records, last 24 hours"), table([
      { title: "Address", cell: (top) => h("a", { href: `#blocks?ip=${encodeURIComponent(top.ip)}` }, top.ip) },
      { title: "Records", cell: (top) => top.count, kind: "number" },
    ], analytics.topIPs)),
  ];
}
