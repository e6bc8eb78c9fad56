/** Tells the others how far saving has come: the control topic, and the broker's copy for lag tools. Rate limited. */
import type { Clock } from "#lib/clock.ts";
import type { Contact } from "#lib/contact.ts";
import type { Control } from "#lib/control.ts";
import type { ControlWriter } from "#lib/control-writer.ts";
import { type GroupReader, LogError } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import type { Lanes } from "./lanes.ts";

/** An old value only overestimates the backlog, so a few a second are enough. */
const EVERY_MS = 500;

export interface AnnouncerParts {
  readonly epoch: number;
  readonly control: Pick<Control, "checkpoint">;
  readonly writer: Pick<ControlWriter, "checkpoints">;
  readonly reader: Pick<GroupReader, "commitHint">;
  readonly lanes: Pick<Lanes, "partitions">;
  /** What the database says of these. @throws what the database gives */
  readonly saved: (partitions: readonly number[]) => Promise<ReadonlyMap<number, { readonly nextOffset: bigint }>>;
  readonly clock: Clock;
  readonly log: Log;
  readonly contact: Pick<Contact, "tell">;
}

/**
 * Sinks tell of a partition one after the other, and one that was frozen, or has found a checkpoint just before another moved
 * it, tells what is over: whose partition it is hears that, and tells what the database says.
 */
export class Announcer {
  readonly name = "checkpoint announcements";
  readonly #parts: AnnouncerParts;
  readonly #changed = new Map<number, bigint>();
  /** What was told last. */
  readonly #told = new Map<number, bigint>();

  constructor(parts: AnnouncerParts) {
    this.#parts = parts;
  }

  /** Takes over checkpoints to be told; only the last one of a partition is. */
  offer(nextOffsets: ReadonlyMap<number, bigint>): void {
    for (const [partition, nextOffset] of nextOffsets) this.#changed.set(partition, nextOffset);
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#parts.clock.sleep(EVERY_MS, signal);
      await this.#look();
      await this.#tell();
    }
  }

  /** What the control topic says, and this sink did not: while nothing changes here, nobody else would correct it. */
  async #look(): Promise<void> {
    const { epoch, control, lanes, saved, log } = this.#parts;
    const doubted = lanes.partitions.filter((partition) => {
      const told = this.#told.get(partition);
      return (
        told !== undefined && !this.#changed.has(partition) && control.checkpoint(epoch, partition)?.nextOffset !== told
      );
    });
    if (doubted.length === 0) return;
    try {
      const found = await saved(doubted);
      for (const [partition, { nextOffset }] of found)
        if (!this.#changed.has(partition)) this.#changed.set(partition, nextOffset);
      log.debug("checkpoints told otherwise by another sink", { partitions: doubted.join(",") });
    } catch (error) {
      log.debug("checkpoints not looked at", { error: (error as Error).message });
    }
  }

  async #tell(): Promise<void> {
    if (this.#changed.size === 0) return;
    const { epoch, writer, reader, contact } = this.#parts;
    const told = new Map(this.#changed);
    this.#changed.clear();
    try {
      await writer.checkpoints(epoch, told);
      for (const [partition, nextOffset] of told) this.#told.set(partition, nextOffset);
      await reader.commitHint(told);
    } catch (error) {
      if (!(error instanceof LogError)) throw error;
      contact.tell("checkpoints not announced", { error: error.message });
      for (const [partition, nextOffset] of told)
        if (!this.#changed.has(partition)) this.#changed.set(partition, nextOffset);
    }
  }
}
