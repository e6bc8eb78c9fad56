/**
 * Dead letters for people: shown, and re-driven. A re-drive appends the event anew, as it was and under the same id: a row at
 * the old offset would appear behind readers' cursors. It is marked once that is acknowledged; whoever dies between leaves
 * one that is re-driven a second time, and is seen once all the same.
 */
import type { Access } from "#lib/access.ts";
import { encodeCursor, type Position } from "#lib/cursor.ts";
import type { RecordDecoder } from "#lib/decode.ts";
import type { Event } from "#lib/event.ts";
import { LogError } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { isPassing } from "#lib/postgres/sqlstate.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import type { Republisher } from "./publish.ts";
import type { DeadLetter, DeadLetterRows, Letters, Redriven, Selection } from "./rows.ts";

/** A dead letter, and what can be made of it now. */
export interface JudgedLetter extends DeadLetter {
  /** Whose it is; null where nobody can tell: then it concerns keys for every client alone. */
  readonly clientId: string | null;
  /** What its value says, valid or not; null: it cannot be decoded. */
  readonly event: Event | null;
  /** Why it cannot be re-driven; null: it can. */
  readonly fault: Fault | null;
}

/** `reason` is a stable word. */
interface Fault {
  readonly reason: string;
  readonly detail: string;
}

export type JudgedLetters = Omit<Letters, "letters"> & { readonly letters: readonly JudgedLetter[] };

/** What became of a re-drive; whatever is neither here nor before `next` was not looked at. */
export interface Outcome extends Omit<Letters, "letters"> {
  readonly redriven: readonly Redriven[];
  readonly refused: readonly (Fault & { readonly position: Position })[];
}

export interface DeadLettersParts {
  readonly rows: Pick<DeadLetterRows, "select" | "mark">;
  readonly decoder: Pick<RecordDecoder, "values">;
  readonly republisher: Pick<Republisher, "publish">;
  readonly log: Log;
  readonly metrics: Metrics;
}

export class DeadLetters {
  readonly #parts: DeadLettersParts;
  /** One re-drive at a time bounds this node's memory for them. */
  #redriving = false;

  constructor(parts: DeadLettersParts) {
    this.#parts = parts;
  }

  /** Those that the key may see. @throws ProblemError store-unreachable, log-unreachable */
  async list(access: Access, selection: Selection): Promise<JudgedLetters> {
    const found = await this.#select(selection);
    return { ...found, letters: found.letters.filter((letter) => mayTouch(access, letter)) };
  }

  /** @throws ProblemError as `list`; forbidden; not-found, which only a key for every client learns */
  async show(access: Access, position: Position): Promise<JudgedLetter> {
    const { letters } = await this.#select({ ...ANYTHING, names: [position], limit: 1 });
    const [letter] = letters;
    if (letter !== undefined && mayTouch(access, letter)) return letter;
    throw access.allows("operate", null) ? new ProblemError(notFound(position)) : forbidden();
  }

  /**
   * Publishes what was selected and can be decoded, in the order of the log. What is not named is passed over where the key
   * may not touch it; what is named is refused with all else.
   * @throws ProblemError as `list`; overloaded; forbidden, before anything was done
   */
  async redrive(access: Access, selection: Selection): Promise<Outcome> {
    if (this.#redriving)
      throw new ProblemError(
        problem("overloaded", "Another re-drive is under way on this node: try again when it is done."),
      );
    this.#redriving = true;
    try {
      return await this.#redrive(access, selection);
    } finally {
      this.#redriving = false;
    }
  }

  async #redrive(access: Access, selection: Selection): Promise<Outcome> {
    const { letters, next, hasMore } = await this.#select(selection);
    const mine = letters.filter((letter) => mayTouch(access, letter));
    const missing = missingNames(selection.names ?? [], letters, hasMore ? next : null);
    if (selection.names !== null && mine.length < letters.length) throw forbidden();
    if (missing.length > 0 && !access.allows("operate", null)) throw forbidden();
    const ready = mine.flatMap(({ position, event, fault }) => (event && !fault ? [{ from: position, event }] : []));
    const redriven = await this.#publish(ready);
    const refused = [
      ...mine.flatMap(({ position, fault }) => (fault ? [{ ...fault, position }] : [])),
      ...missing.map((position) => ({ position, reason: "not-found", detail: notFound(position).detail })),
    ];
    if (redriven.length + refused.length > 0)
      this.#parts.log.info("dead letters re-driven", {
        redriven: redriven.length,
        refused: refused.length,
        first: redriven[0] && encodeCursor(redriven[0].from),
        key: access.name,
      });
    const { queryRedrivenDeadLetters } = this.#parts.metrics;
    queryRedrivenDeadLetters.inc({ outcome: "published" }, redriven.length);
    queryRedrivenDeadLetters.inc({ outcome: "refused" }, refused.length);
    return { redriven, refused, next, hasMore };
  }

  async #publish(ready: readonly { readonly from: Position; readonly event: Event }[]): Promise<readonly Redriven[]> {
    if (ready.length === 0) return [];
    const { republisher, rows } = this.#parts;
    const positions = await republisher.publish(ready.map(({ event }) => event));
    const redriven = ready.map(({ from }, nth) => ({ from, to: positions[nth] as Position }));
    await rows.mark(redriven).catch((cause: unknown) => {
      const detail = `${redriven.length} events are on the log again, and could not be marked (${(cause as Error).message}): re-drive them once more, which harms nothing.`;
      throw new ProblemError(problem("store-unreachable", detail), { cause, retryAfterSeconds: 5 });
    });
    return redriven;
  }

  async #select(selection: Selection): Promise<JudgedLetters> {
    const { rows, decoder } = this.#parts;
    const found = await orUnreachable(rows.select(selection), "Dead letters are kept in the database: try again");
    const read = await orUnreachable(
      decoder.values(found.letters.map(({ value }) => value)),
      "The log is asked for writers' schemas: try again",
    );
    const letters = found.letters.map((letter, nth): JudgedLetter => {
      const { event, fault } = read[nth] ?? { event: null, fault: null };
      const told = event !== null && letter.key?.equals(Buffer.from(event.clientId, "utf8"));
      return { ...letter, clientId: told ? event.clientId : null, event, fault };
    });
    return { ...found, letters };
  }
}

/** Before the first of all epochs. */
export const FIRST: Position = { epoch: 0, partition: 0, offset: -1n };
/** Everything, but for what is overwritten. */
export const ANYTHING: Omit<Selection, "limit"> = {
  names: null,
  after: FIRST,
  through: null,
  reason: null,
  partition: null,
  redriven: null,
};

const mayTouch = (access: Access, { clientId }: JudgedLetter): boolean => access.allows("operate", clientId);

/** @param through up to where was looked; null: to the end */
function missingNames(names: readonly Position[], found: readonly DeadLetter[], through: Position | null): Position[] {
  // As text, cursors are in the order of the log.
  const there = new Set(found.map(({ position }) => encodeCursor(position)));
  return names.filter((name) => {
    const text = encodeCursor(name);
    return !there.has(text) && (through === null || text <= encodeCursor(through));
  });
}

const notFound = (position: Position) =>
  problem("not-found", `There is no dead letter at ${encodeCursor(position)}: take a position from the list.`);

/** The same whether it exists or not. */
const forbidden = (): ProblemError =>
  new ProblemError(
    problem(
      "forbidden",
      "This key may not operate on this dead letter, or there is none: use a key with the verb operate for its client, or for every client.",
    ),
  );

/** @throws ProblemError store-unreachable, log-unreachable; what else is wrong as it is */
async function orUnreachable<T>(asked: Promise<T>, what: string): Promise<T> {
  try {
    return await asked;
  } catch (cause) {
    const code = cause instanceof LogError ? "log-unreachable" : "store-unreachable";
    if (!(cause instanceof LogError) && !isPassing(cause)) throw cause;
    throw new ProblemError(problem(code, `${what} (${(cause as Error).message}).`), { cause, retryAfterSeconds: 5 });
  }
}
