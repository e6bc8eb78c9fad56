/** A refused batch → the rows at fault: one by one, and by halves where the database cannot even read a row. */

import type { Transaction } from "#lib/postgres/pool.ts";
import { classify } from "#lib/postgres/sqlstate.ts";
import type { DeadLetter, Row } from "./batch.ts";
import { type Refused, saveEach } from "./staging.ts";

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

/**
 * @returns how many rows were saved, and those that the database refuses as data
 * @throws StoreRefusesAll; whatever else than refused data the database gives
 */
export async function saveOneByOne(
  transaction: Transaction,
  rows: readonly Row[],
): Promise<{ saved: number; refused: readonly DeadLetter[] }> {
  const refused: Refused[] = [];
  let saved = 0;
  const parts: (readonly Row[])[] = [rows];
  for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
    const tried = await trySome(transaction, part);
    saved += tried.saved;
    refused.push(...tried.refused);
    // The lower half is popped first: rows go in by offset, so that of two copies the first one is kept.
    parts.push(...tried.unread);
  }
  const last = refused.at(-1)?.error;
  if (refused.length === rows.length && rows.length >= ALL_REFUSED_MIN) throw new StoreRefusesAll(rows.length, last);
  return { saved, refused: refused.map(deadLetter) };
}

interface Tried {
  readonly saved: number;
  readonly refused: readonly Refused[];
  /** Both halves of what the database could not even read, the upper one first. */
  readonly unread: readonly (readonly Row[])[];
}

async function trySome(transaction: Transaction, rows: readonly Row[]): Promise<Tried> {
  await transaction.query("SAVEPOINT part");
  try {
    const each = await saveEach(transaction, rows);
    const grave = each.refused.find(({ error }) => classify(error) !== "data")?.error;
    if (grave) throw grave;
    await transaction.query("RELEASE SAVEPOINT part");
    return { ...each, unread: [] };
  } catch (error) {
    if (classify(error) !== "data") throw error;
    await transaction.query("ROLLBACK TO SAVEPOINT part");
    const [row, ...others] = rows;
    if (row !== undefined && others.length === 0)
      return { saved: 0, refused: [{ row, error: error as Error }], unread: [] };
    const middle = rows.length >> 1;
    return { saved: 0, refused: [], unread: [rows.slice(middle), rows.slice(0, middle)] };
  }
}

function deadLetter({ row: { partition, record }, error }: Refused): DeadLetter {
  const { code, message }: Error & { code?: string } = error;
  return { partition, record, reason: `refused-${code ?? "by-database"}`, detail: message };
}
