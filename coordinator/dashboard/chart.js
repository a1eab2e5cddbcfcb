// Stacked bars over time, with a legend and words for those who do not see them.

import { h, s } from "./dom.js";

const WIDTH = 960;
const HEIGHT = 160;
const FOOT = 16;
const KINDS_MAX = 5;

/** the kinds with the most records by themselves, the others as one */
export function kinds(points) {
  const sums = new Map();
  for (const point of points) {
    for (const [kind, count] of Object.entries(point.counts)) sums.set(kind, (sums.get(kind) ?? 0) + count);
  }
  const sorted = [...sums].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
  const own = sorted.slice(0, KINDS_MAX).map(([kind]) => kind);
  const others = sorted.slice(KINDS_MAX).map(([kind]) => kind);
  return { own, others };
}

/** heights of one point's parts, from the ground up */
export function stack(point, { own, others }, highest, height) {
  const counts = own.map((kind) => point.counts[kind] ?? 0);
  counts.push(others.reduce((sum, kind) => sum + (point.counts[kind] ?? 0), 0));
  let ground = height;
  return counts.map((count) => {
    const tall = highest === 0 ? 0 : (count / highest) * height;
    ground -= tall;
    return { y: ground, height: tall, count };
  });
}

export function chart(series, label) {
  const points = series.points;
  const highest = Math.max(1, ...points.map((point) => point.total));
  const groups = kinds(points);
  const width = WIDTH / Math.max(1, points.length);
  const bars = points.map((point, place) => stack(point, groups, highest, HEIGHT - FOOT).map((part, kind) => part.count > 0 &&
    s("rect", { x: place * width, y: part.y, width: Math.max(1, width - 1), height: part.height, class: `kind-${kind}` },
      s("title", {}, `${new Date(point.at).toLocaleString()}: ${part.count} ${groups.own[kind] ?? "others"}`))));
  const names = groups.others.length > 0 ? [...groups.own, "others"] : groups.own;
  const total = points.reduce((sum, point) => sum + point.total, 0);
  const edge = (point) => (point ? new Date(point.at).toLocaleString() : "");
  return h("figure", {},
    s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${label}: ${total} in all, at most ${highest} in a bar` },
      s("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT - FOOT, y2: HEIGHT - FOOT }), bars),
    h("p", { class: "muted" }, `${edge(points[0])} to ${edge(points.at(-1))}, at most ${highest} in a bar`),
    h("ul", { class: "legend" }, names.map((name) => h("li", {}, h("i", { class: `kind-${groups.own.includes(name) ? groups.own.indexOf(name) : KINDS_MAX}` }), name))));
}
