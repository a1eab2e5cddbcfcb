// Login, the frame around the views, and which view is open.

import { post, get, signedOut } from "./api.js";
import { h, show, failure, field } from "./dom.js";
import { overview } from "./overview.js";
import { audit } from "./audit.js";
import { blocks } from "./blocks.js";
import { nodes } from "./nodes.js";
import { policy } from "./policy.js";
import { reports } from "./reports.js";
import { reference } from "./reference.js";

const VIEWS = { overview, audit, blocks, nodes, policy, reports, reference };
const app = document.getElementById("app");
let leave = () => {};

signedOut.addEventListener("signedout", showLogin);
window.addEventListener("hashchange", () => showView());
start();

async function start() {
  try {
    await get("/nodes");
    showFrame();
  } catch (error) {
    if (error.status !== 401) showLogin(error);
  }
}

function showLogin(problem) {
  leave();
  const message = h("div");
  if (problem instanceof Error) show(message, failure(problem));
  const name = h("input", { name: "username", autocomplete: "username", required: true, autofocus: true });
  const password = h("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await post("/login", { username: name.value, password: password.value });
      showFrame();
    } catch (error) {
      password.value = "";
      show(message, failure(error));
    }
  };
  show(app, h("form", { class: "panel login", onsubmit: submit }, h("h1", {}, "Picket"), message, field("Name", name), field("Password", password), h("button", {}, "Log in")));
}

function showFrame() {
  const out = async () => {
    await post("/logout", {}).catch(() => {});
    showLogin();
  };
  const links = Object.keys(VIEWS).map((name) => h("a", { href: `#${name}` }, name[0].toUpperCase() + name.slice(1)));
  show(app, h("header", {}, h("h1", {}, "Picket"), h("nav", { "aria-label": "views" }, links), h("button", { class: "quiet", onclick: out }, "Log out")), h("main", { id: "view" }));
  showView();
}

function showView() {
  const place = document.getElementById("view");
  if (!place) return;
  leave();
  const [name, argument] = location.hash.slice(1).split("?");
  const open = Object.hasOwn(VIEWS, name) ? name : "overview";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${open}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  leave = VIEWS[open](place, new URLSearchParams(argument ?? "")) ?? (() => {});
}
