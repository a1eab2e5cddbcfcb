// What a change of the policy would have refused, from a replay over the audit trail.

import { h, prose, table, time } from "./dom.js";

/** the answer of POST /config/what-if */
export function forecast(answer) {
  const told = answer.rules.filter((one) => one.changed || counted(one.refused) > 0 || counted(one.passing) > 0 || one.unknown > 0);
  return h("div", { class: "notice" },
    h("p", {}, "Replayed over ", answer.records, " records from ", time(answer.since), " until ", time(answer.readUntil), "; nothing is changed."),
    !answer.complete && h("p", { class: "warn" }, "There was more than one replay reads: ask for fewer hours."),
    answer.dropped > 0 && h("p", { class: "warn" }, `${answer.dropped} records were dropped by nodes: nothing is known of them.`),
    table([
      { title: "Rule", cell: (one) => [h("code", {}, one.rule), one.changed && " changed"] },
      { title: "Would be refused", cell: (one) => number(one.refused), kind: "number" },
      { title: "Would pass", cell: (one) => number(one.passing), kind: "number" },
      { title: "Not known", cell: (one) => one.unknown, kind: "number" },
      { title: "Whom it concerns", cell: (one) => [concerned("refused", one.refused), concerned("passing", one.passing)] },
    ], told, "it would have made no difference"),
    answer.notJudged.length > 0 && [
      h("h3", {}, "What the audit trail cannot say"),
      table([
        { title: "Setting", cell: (one) => h("code", {}, one.setting) },
        { title: "Not known", cell: (one) => [one.refused && "what it would refuse", one.passing && "what it would let pass"].filter(Boolean).join(", ") },
        { title: "Because", cell: (one) => prose(one.why) },
      ], answer.notJudged),
    ]);
}

function counted(verdicts) {
  return verdicts === null ? 0 : verdicts.count;
}

function number(verdicts) {
  return verdicts === null ? "not known" : verdicts.count;
}

function concerned(what, verdicts) {
  if (counted(verdicts) === 0) return null;
  const { users, addresses } = verdicts;
  return h("details", {},
    h("summary", {}, `${what}: ${many(users, "users")}, ${many(addresses, "addresses")}`),
    h("ul", {},
      users.top.map((user) => h("li", {}, link({ userId: user.userId }, user.userId), ` ${user.count}`)),
      addresses.top.map((address) => h("li", {}, link({ ip: address.ip }, address.ip), ` ${address.count}`))));
}

function many({ total, totalIsLowerBound }, what) {
  return `${totalIsLowerBound ? "more than " : ""}${total} ${what}`;
}

function link(filter, text) {
  return h("a", { href: `#audit?${new URLSearchParams(filter)}` }, text);
}
