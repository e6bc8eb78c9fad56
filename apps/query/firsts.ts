/**
 * Tail events that no saved row precedes: once a look-up has shown that, it stays so, and they need no other. Rows that are
 * saved later were tail records at that time, and an event that has an earlier one of its identity in the tail is not
 * remembered here. Only rows that come back could precede it, as in a restored backup: then the checkpoint goes back, or
 * the server was started anew.
 */
import type { TailEvent } from "./client-tail.ts";
import type { Asked, Saved } from "./questions.ts";

/** What is asked, and what is not since it is known. */
interface Reliance {
  readonly open: readonly TailEvent[];
  readonly relied: readonly TailEvent[];
  readonly proof: object;
  /** The highest checkpoint that was shown before; null: none was. */
  readonly checkpoint: bigint | null;
}

export class Firsts {
  /** What events are marked with; another one, and all marks are void. */
  #proof: object = {};
  /** By partition. */
  readonly #checkpoints = new Map<number, bigint>();
  #server: number | null = null;

  /** @param server when the server that answers was started: another one may have other rows */
  answeredBy(server: number): void {
    if (this.#server !== null && this.#server !== server) this.#proof = {};
    this.#server = server;
  }

  /** As `ask` would answer, which looks up only what is not known. @throws whatever it does */
  async page(partition: number, asked: Asked, ask: (open: Asked) => Promise<Saved>): Promise<Saved> {
    for (;;) {
      const reliance = this.#rely(partition, asked.events);
      const saved = await ask({ ...asked, events: reliance.open });
      if (this.#holds(partition, asked, reliance, saved)) return saved;
    }
  }

  #rely(partition: number, events: readonly TailEvent[]): Reliance {
    const isKnown = ({ noRow }: TailEvent): boolean => noRow === this.#proof;
    const open = events.filter((event) => !isKnown(event));
    const relied = open.length === events.length ? [] : events.filter(isKnown);
    return { open, relied, proof: this.#proof, checkpoint: this.#checkpoints.get(partition) ?? null };
  }

  /** Whether the answer holds without those that were not asked about; otherwise they are asked about next time. */
  #holds(
    partition: number,
    { rowsAfter, tailStart }: Asked,
    reliance: Reliance,
    { nextOffset, places }: Saved,
  ): boolean {
    const { open, relied, proof, checkpoint } = reliance;
    const shown = nextOffset ?? -1n;
    const wentBack = checkpoint !== null && shown < checkpoint;
    if (wentBack) this.#proof = {};
    // An answer to an earlier question may come later.
    const highest = this.#checkpoints.get(partition);
    if (wentBack || highest === undefined || shown > highest) this.#checkpoints.set(partition, shown);
    if (this.#proof !== proof) return relied.length === 0;
    // Without a checkpoint the rows of the log before may still be coming; below the tail's start it knows no earlier records.
    if (shown >= tailStart)
      for (const event of open) if (event.previous < 0n && !places.has(event.id)) event.noRow = proof;
    // Saved meanwhile: where the page's rows may be of an earlier snapshot, its own row is what tells of it.
    const saved = rowsAfter !== null ? [] : relied.filter(({ offset }) => offset < shown);
    for (const event of saved) event.noRow = null;
    return saved.length === 0;
  }
}
