// Reports over a time: to print, as a table, or as JSON.

import { query } from "./api.js";
import { choice, field, h, show } from "./dom.js";

const FORMATS = ["html", "csv", "json"];
const NAMES = { html: "Open to print", csv: "Table (CSV)", json: "JSON" };

export function reports(place) {
  const period = choice("period", ["1h", "24h", "7d", "30d"], "a time of its own");
  period.value = "24h";
  const since = h("input", { name: "since", type: "datetime-local" });
  const until = h("input", { name: "until", type: "datetime-local" });
  const links = h("div", { class: "buttons" });
  const span = () => (period.value !== "" ? { period: period.value } : { since: moment(since), until: moment(until) });
  const offer = () => {
    for (const input of [since, until]) input.disabled = period.value !== "";
    show(links, FORMATS.map((format) => h("a", { class: "button", href: `/api/security/report${query({ ...span(), format })}`, target: "_blank", rel: "noopener" }, NAMES[format])));
  };
  for (const input of [period, since, until]) input.addEventListener("change", offer);
  offer();
  show(place, h("section", {}, h("h2", {}, "Report"),
    h("p", {}, "Totals, refusals by reason and over time, the busiest addresses, blocks, administration and policy changes."),
    h("form", { class: "row" }, field("Period", period), field("From", since), field("Until", until)), links));
}

/** a local time as the API takes it; empty is none */
function moment(input) {
  return input.value === "" ? "" : new Date(input.value).toISOString();
}
