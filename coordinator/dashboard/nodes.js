// Who is alive, in which mode, with which policy.

import { get } from "./api.js";
import { failure, h, show, table, time } from "./dom.js";

const PERIOD_MS = 3000;

export function nodes(place) {
  let stopped = false;
  let timer;
  const refresh = async () => {
    try {
      const [members, { version }] = await Promise.all([get("/nodes"), get("/config")]);
      if (stopped) return;
      show(place, section("Nodes", [
        { title: "Node", cell: (node) => node.id },
        { title: "Version", cell: (node) => node.version },
        { title: "Mode", cell: (node) => h("span", { class: `badge ${node.mode === "normal" ? "good" : "bad"}` }, node.mode) },
        { title: "Policy", cell: (node) => h("span", { class: `badge ${node.policyVersion >= version ? "good" : "bad"}` }, node.policyVersion >= version ? `version ${version}` : `version ${node.policyVersion}, not ${version}`) },
        { title: "Connections", cell: (node) => node.connections, kind: "number" },
        { title: "Last seen", cell: (node) => time(node.lastSeen), kind: "time" },
      ], members.nodes), section("Coordinators", [
        { title: "Coordinator", cell: (member) => member.id },
        { title: "Part", cell: (member) => (member.leads ? "leads" : "stands by") },
        { title: "Version", cell: (member) => member.version },
        { title: "Last seen", cell: (member) => time(member.lastSeen), kind: "time" },
      ], members.coordinators));
    } catch (error) {
      if (stopped) return;
      show(place, failure(error));
    }
    if (!stopped) timer = setTimeout(refresh, PERIOD_MS);
  };
  refresh();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

function section(title, columns, rows) {
  return h("section", {}, h("h2", {}, title), table(columns, rows, "none is alive"));
}
