/** The event buffer in words. Pure: what came from writers reaches no terminal as it is. */
import { plain } from "../dead-letters/table.ts";
import type { Blocker, Status } from "./install.ts";

const NAME_MAX = 60;

/** @param found null: it is not there */
export function statusLines(where: string, found: Status | null): string[] {
  if (found === null) return [`${where}: there is no event buffer; npm run relay -- install makes it.`];
  const { missing, total, clients, blockers } = found;
  const since = total.oldest === null ? "" : `, the oldest for ${total.oldest}`;
  return [
    `${where}: ${total.waiting} waiting${since}; ${total.aside} set aside.`,
    ...(missing.length === 0 ? [] : [`Not up to date: npm run relay -- install adds ${missing.join(", ")}.`]),
    ...clients.map(
      ({ client, waiting, oldest, aside }) =>
        `  client "${plain(client, NAME_MAX)}": ${waiting} waiting${oldest === null ? "" : `, for ${oldest}`}; ${aside} set aside`,
    ),
    ...blockers.map(blockerLine),
  ];
}

function blockerLine({ pid, gid, age, state, application, waiting }: Blocker): string {
  const who =
    pid === null
      ? `the prepared transaction ${plain(gid ?? "?", NAME_MAX)}`
      : `process ${pid} (${plain(application || "no application_name", NAME_MAX)}, ${state ?? "state not shown to this role"})`;
  const end =
    pid === null ? `COMMIT PREPARED or ROLLBACK PREPARED ends it` : `SELECT pg_terminate_backend(${pid}) would end it`;
  return `  ${waiting} waiting behind ${who}, its transaction open for ${age ?? "a time not shown to this role"}; ${end}`;
}

const REMEDIES: Readonly<Record<string, string>> = {
  "42501": "Run it as the database's owner, or give that person what `npm run relay -- install --print` prints.",
  "42704": "Make the role first: CREATE ROLE … LOGIN. This command makes none.",
  "55P03": "A transaction that has written events is still open. Try again when it has ended.",
  "2BP01": "Something was built on the event buffer. Drop that first.",
  "25006": "This server takes no writes: name the primary.",
};

/** What to do about an error, behind its own text; "" where that says it. */
export function remedy(error: unknown): string {
  const { code, detail } = (error ?? {}) as { code?: string; detail?: string };
  const known = REMEDIES[code ?? ""];
  return known === undefined ? "" : `. ${detail ? `${detail}. ` : ""}${known}`;
}
