// The audit trail: filters, pages, export, and what lies behind a record.

import { get, query } from "./api.js";
import { choice, failure, field, h, show, table, time } from "./dom.js";

const KINDS = [
  "CONNECTION_ATTEMPT", "CONNECTION_BLOCKED", "AUTHENTICATION_SUCCESS", "AUTHENTICATION_FAILURE", "RATE_LIMIT_EXCEEDED", "PAYLOAD_TOO_LARGE",
  "INVALID_ORIGIN", "SUSPICIOUS_ACTIVITY", "IP_BLOCKED", "IP_UNBLOCKED", "UNAUTHORIZED_EVENT", "VALIDATION_ERROR", "CONNECTION_CLOSED",
  "POLICY_CHANGED", "ADMIN_LOGIN", "ADMIN_ACTION", "AUDIT_DROPPED", "MODE_CHANGED", "ALARM_RAISED",
  "ALARM_RESOLVED",
];
const SEVERITIES = ["low", "medium", "high", "critical"];
const TONES = { low: "muted", medium: "warn", high: "bad", critical: "bad" };

export function audit(place, parameters) {
  const filters = {
    eventType: choice("eventType", KINDS, "every kind"),
    severity: choice("severity", SEVERITIES, "every severity"),
    ip: h("input", { name: "ip", placeholder: "192.0.2.0/24", value: parameters.get("ip") ?? "" }),
    userId: h("input", { name: "userId" }),
    text: h("input", { name: "text" }),
  };
  const results = h("div");
  const detail = h("div");
  const values = () => Object.fromEntries(Object.entries(filters).map(([name, input]) => [name, input.value.trim()]));
  const exported = (format) => h("button", { type: "button", class: "quiet", onclick: () => window.open(`/api/security/audit-logs/export${query({ ...values(), format })}`, "_blank", "noopener") }, `Export ${format}`);
  const load = async (cursor, earlier = []) => {
    try {
      const page = await get(`/audit-logs${query({ ...values(), cursor, limit: 100 })}`);
      const logs = [...earlier, ...page.logs];
      show(results,
        h("p", { class: "muted" }, `${logs.length} of ${page.total}${page.totalIsLowerBound ? " or more" : ""}`),
        records(logs, (record) => explain(record, detail)),
        page.nextCursor && h("button", { class: "quiet", onclick: () => load(page.nextCursor, logs) }, "More"));
    } catch (error) {
      show(results, failure(error));
    }
  };
  const search = (event) => {
    event.preventDefault();
    show(detail);
    load();
  };
  show(place, h("section", {},
    h("h2", {}, "Audit"),
    h("form", { class: "row", onsubmit: search },
      field("Kind", filters.eventType), field("Severity", filters.severity), field("Address or prefix", filters.ip), field("User", filters.userId), field("Text", filters.text),
      h("button", {}, "Search"), exported("csv"), exported("ndjson")),
    detail, results));
  load();
}

function records(logs, open) {
  return table([
    { title: "Time", cell: (record) => time(record.timestamp), kind: "time" },
    { title: "Kind", cell: (record) => record.eventType },
    { title: "Severity", cell: (record) => h("span", { class: `badge ${TONES[record.severity] ?? ""}` }, record.severity) },
    { title: "Address", cell: (record) => h("a", { href: `#blocks?ip=${encodeURIComponent(record.ip)}` }, record.ip) },
    { title: "User", cell: (record) => record.userId ?? "" },
    { title: "Event", cell: (record) => record.eventName ?? "" },
    { title: "Message", cell: (record) => record.message },
    { title: "", cell: (record) => h("button", { class: "quiet", onclick: () => open(record) }, "Why") },
  ], logs, "no record fits");
}

async function explain(record, place) {
  try {
    const explanation = await get(`/audit-logs/${encodeURIComponent(record.id)}/explanation`);
    show(place, h("div", { class: "notice" }, h("p", {}, `Record ${record.id}`), h("pre", {}, JSON.stringify(explanation, null, 2)), h("button", { class: "quiet", onclick: () => show(place) }, "Close")));
    place.scrollIntoView({ block: "nearest" });
  } catch (error) {
    show(place, failure(error));
  }
}
