/** Calls of the HTTP API on this node. */

/** What the node answered instead, or that it did not. */
export class Refused extends Error {}

/**
 * @param {string} path with its query
 * @param {{ key?: string, body?: unknown }} options a body makes it a POST
 * @returns {Promise<{ status: number, headers: Headers, body: any }>}
 */
export async function call(path, { key, body } = {}) {
  const headers = new Headers();
  if (key) headers.set("authorization", `Bearer ${key}`);
  if (body !== undefined) headers.set("content-type", "application/json");
  let answer;
  try {
    answer = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body });
  } catch (cause) {
    throw new Refused("The node does not answer. Is it running?", { cause });
  }
  const told = await answer.json().catch(() => ({}));
  // /readyz answers 503 with what is missing: an answer, not a problem.
  if (answer.ok || told.code === undefined) return { status: answer.status, headers: answer.headers, body: told };
  throw new Refused(`${answer.status} ${told.code}: ${told.detail}`);
}

/** @param {Record<string, string | undefined>} given @returns {string} without what is undefined */
export function query(given) {
  return new URLSearchParams(Object.entries(given).filter(([, value]) => value !== undefined)).toString();
}
