// The policy: read, edited as JSON, judged by the coordinator, replayed over the audit trail, saved on top of the version that was read; and its history.

import { get, post, put } from "./api.js";
import { failure, h, notice, show, table, time } from "./dom.js";
import { mergePatch } from "./patch.js";
import { forecast } from "./whatif.js";

export function policy(place) {
  const editor = h("textarea", { spellcheck: "false", "aria-label": "policy as JSON" });
  const message = h("div");
  const title = h("h2", {}, "Policy");
  const versions = h("div");
  let current;

  const load = async () => {
    try {
      current = await get("/config");
      editor.value = JSON.stringify(current.policy, null, 2);
      show(title, `Policy, version ${current.version} `, h("span", { class: `badge ${current.applied ? "good" : "warn"}` }, current.applied ? "on every node" : "on its way"));
      show(versions, history(await get("/config/history"), restore));
    } catch (error) {
      show(message, failure(error));
    }
  };
  const edited = () => {
    const document = JSON.parse(editor.value);
    if (typeof document !== "object" || document === null || Array.isArray(document)) throw new Error("the policy must be an object");
    return mergePatch(current.policy, document);
  };
  const send = async (path, done) => {
    try {
      const patch = edited();
      if (Object.keys(patch).length === 0) return show(message, notice("", "nothing is changed"));
      await put(path, patch, current.version);
      show(message, notice("good", done));
      return true;
    } catch (error) {
      show(message, failure(error));
    }
  };
  const ask = async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    show(message, notice("", "replaying the last 24 hours…"));
    try {
      show(message, forecast(await post("/config/what-if", edited())));
    } catch (error) {
      show(message, failure(error));
    }
    button.disabled = false;
  };
  const save = async () => {
    if (await send("/config", "saved")) await load();
  };
  const restore = async (version) => {
    try {
      await post("/config/rollback", { version });
      show(message, notice("good", `version ${version} is in force again`));
      await load();
    } catch (error) {
      show(message, failure(error));
    }
  };

  show(place,
    h("section", {}, title, message, editor, h("div", { class: "buttons" },
      h("button", { onclick: save }, "Save"),
      h("button", { class: "quiet", onclick: () => send("/config?dryRun=true", "no mistakes; nothing is changed yet") }, "Validate"),
      h("button", { class: "quiet", onclick: ask }, "What if?"),
      h("button", { class: "quiet", onclick: () => load().then(() => show(message)) }, "Discard"))),
    h("section", {}, h("h2", {}, "History"), versions));
  load();
}

function history({ versions }, restore) {
  return table([
    { title: "Version", cell: (entry) => entry.version, kind: "number" },
    { title: "By", cell: (entry) => entry.by },
    { title: "At", cell: (entry) => time(entry.at), kind: "time" },
    { title: "Changes", cell: (entry) => (entry.changes ?? []).map((change) => h("div", {}, h("code", {}, change.path), `: ${JSON.stringify(change.from)} → ${JSON.stringify(change.to)}`)) },
    { title: "", cell: (entry) => entry !== versions[0] && h("button", { class: "quiet", onclick: () => restore(entry.version) }, "Go back to this") },
  ], versions);
}
