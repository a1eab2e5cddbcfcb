// The reference of the management API, as its OpenAPI document says it.

import { description } from "./api.js";
import { failure, field, h, prose, show, table } from "./dom.js";

const TONES = { get: "good", post: "warn", put: "warn", delete: "bad" };

export function reference(place) {
  const find = h("input", { type: "search", placeholder: "block, cursor, audit:read" });
  const list = h("div");
  const load = async () => {
    try {
      const document = await description();
      const all = operations(document);
      const narrow = () => show(list, all.filter((one) => matches(one, find.value)).map((one) => operation(document, one)));
      find.addEventListener("input", narrow);
      narrow();
      show(place,
        h("section", {}, h("h2", {}, `${document.info.title} ${document.info.version}`),
          h("p", {}, prose(document.info.description)),
          h("p", {}, h("a", { href: `${document.servers[0].url}/openapi.json`, target: "_blank", rel: "noopener" }, "OpenAPI document")),
          h("div", { class: "row" }, field("Find", find)), list),
        h("section", {}, h("h2", {}, "Schemas"), schemas(document)));
    } catch (error) {
      show(place, failure(error));
    }
  };
  load();
}

/** every operation with its place, as a list */
export function operations(document) {
  return Object.entries(document.paths).flatMap(([path, item]) => Object.entries(item).map(([method, described]) => ({ method, path, ...described })));
}

export function matches(one, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const hay = [one.method, one.path, one.summary, one.description ?? "", scope(one), ...(one.parameters ?? []).map((parameter) => parameter.name)].join(" ").toLowerCase();
  return words.every((word) => hay.includes(word));
}

/** what a caller must be allowed to do */
export function scope(one) {
  const [first] = one.security;
  const [roles] = Object.values(first);
  if (roles === undefined) return "open";
  return roles[0] ?? "any credential";
}

function operation(document, one) {
  const body = one.requestBody?.content["application/json"];
  return h("details", { class: "operation" },
    h("summary", {}, h("span", { class: `badge ${TONES[one.method] ?? ""}` }, one.method.toUpperCase()), " ", h("code", {}, one.path), " ", prose(one.summary), " ", h("span", { class: "badge" }, scope(one))),
    one.description && h("p", {}, prose(one.description)),
    one.parameters && table([
      { title: "Parameter", cell: (parameter) => h("code", {}, parameter.name) },
      { title: "In", cell: (parameter) => parameter.in },
      { title: "Form", cell: (parameter) => form(parameter.schema) },
      { title: "Meaning", cell: (parameter) => prose(parameter.description) },
    ], one.parameters),
    body && [h("h3", {}, "Body"), fields(body.schema), h("pre", {}, pretty(body.example))],
    h("h3", {}, "Answers"),
    table([
      { title: "Status", cell: ([status]) => h("code", {}, status) },
      { title: "Meaning", cell: ([, response]) => prose(response.description) },
      { title: "Content", cell: ([, response]) => contents(response) },
    ], Object.entries(one.responses).map(([status, response]) => [status, follow(document, response)])),
    Object.values(one.responses).map((response) => response.content?.["application/json"]?.example).filter(Boolean).map((example) => h("pre", {}, pretty(example))));
}

function fields(schema) {
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {});
  return rows.length > 0 && table([
    { title: "Field", cell: ([name]) => h("code", {}, required.has(name) ? name : `${name}?`) },
    { title: "Form", cell: ([, of]) => form(of) },
    { title: "Meaning", cell: ([, of]) => prose(of.description ?? "") },
  ], rows);
}

function contents(response) {
  return Object.entries(response.content ?? {}).map(([type, { schema }]) => h("div", {}, `${type} `, reached(schema)));
}

/** the named schema that an answer holds */
function reached(schema) {
  const inner = schema.properties?.data ?? schema;
  const name = inner.$ref?.split("/").at(-1);
  return name && h("a", { href: "#reference", onclick: (event) => open(event, name) }, name);
}

function open(event, name) {
  event.preventDefault();
  const element = document.getElementById(`schema-${name}`);
  element.open = true;
  element.scrollIntoView({ block: "start" });
}

function schemas(document) {
  const entries = Object.entries(document.components.schemas);
  return entries.map(([name, schema]) => h("details", { id: `schema-${name}` }, h("summary", {}, h("code", {}, name), " ", prose(schema.description ?? "")), h("pre", {}, pretty(schema))));
}

/** a schema in a few words */
export function form(schema) {
  if (schema.enum) return schema.enum.join(", ");
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  const type = [schema.type ?? "any"].flat().join(" or ");
  const least = schema.minimum ?? schema.minLength;
  const most = schema.maximum ?? schema.maxLength;
  const bounds = least === undefined && most === undefined ? "" : `, ${least ?? ""}…${most ?? ""}`;
  const formats = [schema, ...(schema.anyOf ?? [])].map((one) => one.format).filter(Boolean).join(" or ");
  return `${type}${formats && ` (${formats})`}${bounds}`;
}

function follow(document, part) {
  if (!part.$ref) return part;
  return part.$ref.split("/").slice(1).reduce((at, key) => at[key], document);
}

function pretty(value) {
  return JSON.stringify(value, null, 2);
}
