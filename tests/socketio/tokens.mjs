// Application tokens: JWT with HS256, signed by hand.

import { createHmac } from "node:crypto";
import { ISSUER, SECRET } from "./picket.mjs";

export function token(subject, claims = {}, secret = SECRET) {
  const expires = Math.floor(Date.now() / 1000) + 3600;
  const body = { iss: ISSUER.issuer, aud: ISSUER.audience, sub: subject, role: "member", exp: expires, ...claims };
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ typ: "JWT", alg: "HS256" })}.${part(body)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}
