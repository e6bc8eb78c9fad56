/** The console page: static files that a person opens in a browser. It has no rights of its own: it calls the API. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Server } from "#lib/http.ts";

const TYPES = { html: "text/html", css: "text/css", js: "text/javascript" } as const;

/** Path → file in `console/`. */
const FILES = {
  "/": "index.html",
  "/console/style.css": "style.css",
  "/console/api.js": "api.js",
  "/console/listed.js": "listed.js",
  "/console/live.js": "live.js",
  "/console/main.js": "main.js",
} as const;

/** Nothing from elsewhere, nothing inline; requests and sockets to this node only. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS = {
  "content-security-policy": POLICY,
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cache-control": "no-cache",
};

/** The page at `/`. It is open; what it shows needs a key where there are keys. */
export function registerConsole(server: Server): void {
  for (const [path, file] of Object.entries(FILES)) {
    const body = readFileSync(new URL(`console/${file}`, import.meta.url));
    const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`;
    const type = `${TYPES[file.split(".")[1] as keyof typeof TYPES]}; charset=utf-8`;
    server.get(path, { config: { access: "open" } }, (request, reply) => {
      void reply.headers(HEADERS).header("etag", etag).type(type);
      if (request.headers["if-none-match"] === etag) return reply.code(304).send();
      return reply.send(body);
    });
  }
}
