// The management API, with the session's cookie. A 401 means that the session is over.

const BASE = "/api/security";

export class ApiError extends Error {
  constructor(status, message, mistakes) {
    super(message);
    this.status = status;
    this.mistakes = mistakes;
  }
}

export const signedOut = new EventTarget();

async function ask(method, path, body, headers = {}) {
  const init = { method, headers: { ...headers }, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(BASE + path, init);
  } catch {
    throw new ApiError(0, "the coordinator does not answer", []);
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && path !== "/login") signedOut.dispatchEvent(new Event("signedout"));
  if (!response.ok && answer.status === undefined) throw new ApiError(response.status, `status ${response.status}`, []);
  if (!response.ok && answer.success === false) throw new ApiError(response.status, answer.detail ?? answer.title, answer.errors ?? []);
  return answer.data ?? answer;
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body);
export const put = (path, body, version) => ask("PUT", path, body, version === undefined ? {} : { "If-Match": `"${version}"` });

/** what the API says of itself, asked for once */
export function description() {
  described ??= get("/openapi.json").catch((error) => {
    described = undefined;
    throw error;
  });
  return described;
}
let described;

/** a query string of what is not empty */
export function query(parameters) {
  const filled = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
  return filled.length === 0 ? "" : `?${new URLSearchParams(filled)}`;
}
