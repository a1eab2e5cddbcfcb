// The stream of what happens: records and metrics, what was lost of them, and whether it is there.

import { get, query } from "./api.js";

const AGAIN_MS = 5000;

/** hears `audit`, `metrics` and `lost` until the answer is called; `state` is told true or false */
export function follow(filters, hears) {
  let source;
  let timer;
  const open = () => {
    source = new EventSource(`/api/security/stream${query(filters)}`);
    for (const kind of ["audit", "metrics", "lost"]) source.addEventListener(kind, (event) => hears[kind]?.(JSON.parse(event.data)));
    source.addEventListener("open", () => hears.state?.(true));
    source.addEventListener("error", () => {
      hears.state?.(false);
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(again, AGAIN_MS);
    });
  };
  // It was refused: a session that is over shows here.
  const again = () => get("/nodes").then(open, () => { timer = setTimeout(again, AGAIN_MS); });
  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
