/** Tells the others how far saving has come: the control topic, and the broker's copy for lag tools. Rate limited. */
import type { Clock } from "#lib/clock.ts";
import type { Contact } from "#lib/contact.ts";
import type { ControlWriter } from "#lib/control-writer.ts";
import { type GroupReader, LogError } from "#lib/kafka/ports.ts";

/** An old value only overestimates the backlog, so a few a second are enough. */
const EVERY_MS = 500;

export class Announcer {
  readonly name = "checkpoint announcements";
  readonly #changed = new Map<number, bigint>();
  readonly #epoch: number;
  readonly #control: ControlWriter;
  readonly #reader: Pick<GroupReader, "commitHint">;
  readonly #clock: Clock;
  readonly #contact: Contact;

  constructor(parts: {
    epoch: number;
    control: ControlWriter;
    reader: Pick<GroupReader, "commitHint">;
    clock: Clock;
    contact: Contact;
  }) {
    this.#epoch = parts.epoch;
    this.#control = parts.control;
    this.#reader = parts.reader;
    this.#clock = parts.clock;
    this.#contact = parts.contact;
  }

  /** Takes over checkpoints to be told; only the last one of a partition is. */
  offer(nextOffsets: ReadonlyMap<number, bigint>): void {
    for (const [partition, nextOffset] of nextOffsets) this.#changed.set(partition, nextOffset);
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#clock.sleep(EVERY_MS, signal);
      await this.#tell();
    }
  }

  async #tell(): Promise<void> {
    if (this.#changed.size === 0) return;
    const told = new Map(this.#changed);
    this.#changed.clear();
    try {
      await this.#control.checkpoints(this.#epoch, told);
      await this.#reader.commitHint(told);
    } catch (error) {
      if (!(error instanceof LogError)) throw error;
      this.#contact.tell("checkpoints not announced", { error: error.message });
      for (const [partition, nextOffset] of told)
        if (!this.#changed.has(partition)) this.#changed.set(partition, nextOffset);
    }
  }
}
