/**
 * How far a read must see, and whether the log reaches so far at all. A cursor that lies beyond the log's end names what is no
 * longer there: whoever went on from it would pass over everything that is acknowledged until the log has grown up to it.
 */
import { ProblemError, problem } from "#lib/problem.ts";
import type { Barrier, NoMark } from "./barrier.ts";
import { type ClientOrder, comparePlaces, type Place } from "./places.ts";
import type { Tail } from "./tail.ts";

/** What a read says of places that must be on the log. */
export interface Wanted {
  /** The answer begins behind it. */
  readonly after: Place;
  /** Must be covered by the answer, instead of what the barrier says; null: the barrier decides. */
  readonly atLeast: Place | null;
  /** `known` never waits. */
  readonly consistency: "latest" | "known";
}

/** A place, and the parameter that says so. */
interface Named {
  readonly field: string;
  readonly place: Place;
}

export interface ReachParts {
  readonly tail: Pick<Tail, "partition" | "reached">;
  readonly barrier: Pick<Barrier, "mark">;
}

export class Reach {
  readonly #parts: ReachParts;

  constructor(parts: ReachParts) {
    this.#parts = parts;
  }

  /**
   * How far this node must have read before it may answer; 0n: as far as it has.
   * @throws ProblemError log-unreachable, or behind when it was given too little time to tell; cursor-gone when the log ends
   *   before one of the places
   */
  async mark(order: ClientOrder, { after, atLeast, consistency }: Wanted, untilMs: number): Promise<bigint> {
    if (atLeast !== null) {
      const named =
        comparePlaces(atLeast, after) < 0 ? { field: "after", place: after } : { field: "atLeast", place: atLeast };
      await this.#reached(order, named, untilMs);
      return beyond(order, named.place);
    }
    if (consistency === "known") return 0n;
    const end = await this.#end(order, untilMs);
    if (beyond(order, after) > end) throw gone("after", order, after, end);
    return end;
  }

  /**
   * Asks where the log ends, and waits for nothing.
   * @param proved called once it is proved to end before the place
   */
  prove(order: ClientOrder, { field, place }: Named, untilMs: number, proved: (why: ProblemError) => void): void {
    const onEnd = (end: bigint): void => {
      if (end < beyond(order, place)) proved(gone(field, order, place, end));
    };
    // A log that does not tell proves nothing.
    this.#parts.barrier.mark(order.partition, untilMs).then(onEnd, () => undefined);
  }

  /** Waits until the node has read so far, at most until the deadline; the log is only asked where it has not. */
  async #reached(order: ClientOrder, named: Named, untilMs: number): Promise<void> {
    const { tail } = this.#parts;
    const mark = beyond(order, named.place);
    if (tail.partition(order.partition).next >= mark) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    tail.reached(order.partition, mark, untilMs).then(() => resolve(), reject);
    this.prove(order, named, untilMs, reject);
    await promise;
  }

  async #end(order: ClientOrder, untilMs: number): Promise<bigint> {
    try {
      return await this.#parts.barrier.mark(order.partition, untilMs);
    } catch (cause) {
      const detail = `${(cause as Error).message}. Try again; pages with consistency=known or view=saved are to be had meanwhile.`;
      throw new ProblemError(problem((cause as NoMark).code, detail), { cause });
    }
  }
}

/** The first offset behind a place of the log in use; older logs do not grow any more. */
const beyond = ({ epoch }: ClientOrder, place: Place): bigint => (place.epoch === epoch ? place.offset + 1n : 0n);

/** @param end first offset that the log does not have */
function gone(field: string, { partition }: ClientOrder, { offset }: Place, end: bigint): ProblemError {
  const detail =
    `${field} names offset ${offset} of partition ${partition}, and the log ends at ${end}: it has lost what was there. ` +
    "Read again from an earlier cursor, or from the beginning with after=0.";
  return new ProblemError(problem("cursor-gone", detail, { field }));
}
