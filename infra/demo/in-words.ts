/** Why the demo ended, for the person at it. */
import { RefusedError } from "../../clients/typescript/src/index.ts";

const KEY =
  "\nThe demo wants a key for every client: npm run keys -- --name demo --prefix '' --verbs append,read --file FILE " +
  "adds one to the node's key file (which it reads at its next start); npm run demo -- --token TOKEN uses it.";

export function inWords(error: unknown): string {
  const said = error instanceof Error ? error.message : String(error);
  const keyIsMissing = error instanceof RefusedError && [401, 403].includes(error.problem.status);
  return keyIsMissing ? `${said}${KEY}` : said;
}
