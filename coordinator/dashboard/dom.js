// Elements from data. Every text becomes a text node: nothing that a client sent is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** an HTML element; properties that start with `on` are listeners */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** an SVG element */
export function s(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false).map(toNode));
  return element;
}

function toNode(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}

/** puts children in the place of what was there */
export function show(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter(Boolean).map(toNode));
}

/** a table; a column is { title, cell, kind } with kind "number" or "time" */
export function table(columns, rows, empty = "nothing yet") {
  if (rows.length === 0) return h("p", { class: "muted" }, empty);
  const head = h("tr", {}, columns.map((column) => h("th", { class: column.kind, scope: "col" }, column.title)));
  const body = rows.map((row) => h("tr", {}, columns.map((column) => h("td", { class: column.kind }, column.cell(row)))));
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, body)));
}

export function notice(kind, text) {
  return h("p", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, text);
}

/** what an API failure says, mistake by mistake */
export function failure(error) {
  const mistakes = error.mistakes ?? [];
  return h("div", { class: "notice bad", role: "alert" },
    h("p", {}, error.message),
    mistakes.length > 0 && h("ul", {}, mistakes.map((mistake) => h("li", {}, h("code", {}, mistake.path || "document"), ": ", mistake.message))));
}

/** words with `code` between backticks */
export function prose(text) {
  return text.split("`").map((part, place) => (place % 2 === 1 ? h("code", {}, part) : part));
}

export function time(text) {
  if (!text) return "until lifted";
  const moment = new Date(text);
  return Number.isNaN(moment.getTime()) ? text : h("time", { datetime: text, title: text }, moment.toLocaleString());
}

export function field(label, input) {
  return h("label", {}, label, input);
}

export function choice(name, values, first) {
  return h("select", { name }, h("option", { value: "" }, first), values.map((value) => h("option", { value }, value)));
}
