/** A refused batch → the rows at fault, by halves: about log2(n) more statements for each bad row. */

import type { Transaction } from "#lib/postgres/pool.ts";
import { classify } from "#lib/postgres/sqlstate.ts";
import type { DeadLetter, Row } from "./batch.ts";

/**
 * So many rows of one batch, all refused: then not the rows are wrong but the table (a column that was added, a
 * constraint that nothing meets), and setting every event aside would empty the log into the dead letters.
 */
const ALL_REFUSED_MIN = 10;

/** The table takes no event at all; nothing was set aside. `code` makes it a mistake to be mended, not bad data. */
export class StoreRefusesAll extends Error {
  readonly code = "42000";
  constructor(rows: number, cause: unknown) {
    super(`all of ${rows} events were refused by the table spillway.event: ${(cause as Error).message}`, { cause });
    this.name = "StoreRefusesAll";
  }
}

type SaveSome = (transaction: Transaction, rows: readonly Row[]) => Promise<number>;

/**
 * @param save saves all the rows given or rejects
 * @returns how many rows were saved, and those that the database refuses as data
 * @throws StoreRefusesAll; whatever else than refused data the database gives
 */
export async function saveOneByOne(
  transaction: Transaction,
  rows: readonly Row[],
  save: SaveSome,
): Promise<{ saved: number; refused: readonly DeadLetter[] }> {
  const refused: DeadLetter[] = [];
  let saved = 0;
  let lastError: unknown;
  const parts: (readonly Row[])[] = [rows];
  for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
    await transaction.query("SAVEPOINT part");
    try {
      saved += await save(transaction, part);
      await transaction.query("RELEASE SAVEPOINT part");
    } catch (error) {
      if (classify(error) !== "data") throw error;
      lastError = error;
      await transaction.query("ROLLBACK TO SAVEPOINT part");
      if (part.length === 1) refused.push(...part.map((row) => refusal(row, error)));
      else {
        const middle = part.length >> 1;
        // The lower half is popped first: rows go in by offset, so that of two copies the first one is kept.
        parts.push(part.slice(middle), part.slice(0, middle));
      }
    }
  }
  if (refused.length === rows.length && rows.length >= ALL_REFUSED_MIN)
    throw new StoreRefusesAll(rows.length, lastError);
  return { saved, refused };
}

function refusal({ partition, record }: Row, error: unknown): DeadLetter {
  const { code, message } = error as { code?: string; message: string };
  return { partition, record, reason: `refused-${code ?? "by-database"}`, detail: message };
}
