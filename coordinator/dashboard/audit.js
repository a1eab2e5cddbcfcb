// The audit trail: filters, pages, export, what comes while one looks, and what lies behind a record.

import { description, get, query } from "./api.js";
import { follow } from "./stream.js";
import { choice, failure, field, h, show, table, time } from "./dom.js";

const LIVE_MAX = 200;
const TONES = { low: "muted", medium: "warn", high: "bad", critical: "bad" };

export function audit(place, parameters) {
  const filters = {
    eventType: choice("eventType", [], "every kind"),
    severity: choice("severity", [], "every severity"),
    ip: h("input", { name: "ip", placeholder: "192.0.2.0/24", value: parameters.get("ip") ?? "" }),
    userId: h("input", { name: "userId", value: parameters.get("userId") ?? "" }),
    text: h("input", { name: "text" }),
  };
  const results = h("div");
  const detail = h("div");
  const values = () => Object.fromEntries(Object.entries(filters).map(([name, input]) => [name, input.value.trim()]));
  const exported = (format) => h("button", { type: "button", class: "quiet", onclick: () => window.open(`/api/security/audit-logs/export${query({ ...values(), format })}`, "_blank", "noopener") }, `Export ${format}`);
  let live = () => {};
  const stop = () => {
    live();
    live = () => {};
  };
  const load = async (cursor, earlier = []) => {
    stop();
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
  const listen = () => {
    stop();
    const heard = [];
    let lost = 0;
    let there = false;
    let due = 0;
    const draw = () => {
      due = 0;
      show(results,
        h("p", { class: "muted" }, h("span", { class: `badge ${there ? "good" : "warn"}` }, there ? "live" : "not connected"), ` ${heard.length} newest${lost > 0 ? `, ${lost} not told` : ""}`),
        records(heard, (record) => explain(record, detail), "nothing has happened yet"));
    };
    // However many come, they are drawn once a frame.
    const changed = () => { due ||= requestAnimationFrame(draw); };
    const close = follow(values(), {
      audit: (record) => {
        heard.unshift(record);
        heard.length = Math.min(heard.length, LIVE_MAX);
        changed();
      },
      lost: (part) => {
        lost += part.records;
        changed();
      },
      state: (is) => {
        there = is;
        changed();
      },
    });
    live = () => {
      cancelAnimationFrame(due);
      close();
    };
    draw();
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
      h("button", {}, "Search"), h("button", { type: "button", class: "quiet", onclick: listen }, "Live"), exported("csv"), exported("ndjson")),
    detail, results));
  offerChoices(filters);
  load();
  return stop;
}

/** the choices are those that the API takes */
async function offerChoices(filters) {
  try {
    const { parameters } = (await description()).paths["/audit-logs"].get;
    for (const name of ["eventType", "severity"]) {
      const { schema } = parameters.find((parameter) => parameter.name === name);
      filters[name].append(...schema.enum.map((value) => h("option", { value }, value)));
    }
  } catch {
    // Every kind and every severity can still be asked for.
  }
}

function records(logs, open, empty = "no record fits") {
  return table([
    { title: "Time", cell: (record) => time(record.timestamp), kind: "time" },
    { title: "Kind", cell: (record) => record.eventType },
    { title: "Severity", cell: (record) => h("span", { class: `badge ${TONES[record.severity] ?? ""}` }, record.severity) },
    { title: "Address", cell: (record) => h("a", { href: `#blocks?ip=${encodeURIComponent(record.ip)}` }, record.ip) },
    { title: "User", cell: (record) => record.userId ?? "" },
    { title: "Event", cell: (record) => record.eventName ?? "" },
    { title: "Message", cell: (record) => record.message },
    { title: "", cell: (record) => h("button", { class: "quiet", onclick: () => open(record) }, "Why") },
  ], logs, empty);
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
