/**
 * Bytes that callers make a node hold, with one bound over all of them. Nobody is hurried while there is room; when there is
 * none, whoever has held on for long gives way to those who come, so that a few who stand still never stop all others.
 */
import type { Clock } from "./clock.ts";

/** Enough for a body of 4 MiB at 3.5 Mbit/s. Slower callers are served too, while nobody else needs the room. */
const PATIENCE_MS = 10_000;

/** What one caller holds. */
export interface Hold {
  /** False: there is no room for so many bytes more, or this one has given way meanwhile. */
  grow(bytes: number): boolean;
  /** Gives all of it back. Again does nothing. */
  release(): void;
}

interface Holder extends Hold {
  readonly sinceMs: number;
  readonly giveWay: () => void;
}

export class Room {
  readonly bytesMax: number;
  readonly #clock: Pick<Clock, "elapsed">;
  /** In order of arrival. */
  readonly #holders = new Set<Holder>();
  #bytes = 0;

  constructor(bytesMax: number, clock: Pick<Clock, "elapsed">) {
    this.bytesMax = bytesMax;
    this.#clock = clock;
  }

  /** Held now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether there is room for so many bytes more. Where there is none, those who have held on for long give way. */
  has(bytes: number): boolean {
    while (this.#bytes + bytes > this.bytesMax) {
      const [oldest] = this.#holders;
      if (oldest === undefined || bytes > this.bytesMax) return false;
      if (this.#clock.elapsed() - oldest.sinceMs < PATIENCE_MS) return false;
      oldest.release();
      oldest.giveWay();
    }
    return true;
  }

  /**
   * @param giveWay ends what is held, at once; called at most once, and never after `release`
   * @returns null when there is no room
   */
  take(bytes: number, giveWay: () => void): Hold | null {
    if (!this.has(bytes)) return null;
    let held = bytes;
    this.#bytes += bytes;
    const holder: Holder = {
      sinceMs: this.#clock.elapsed(),
      giveWay,
      grow: (more) => {
        if (!this.has(more) || !this.#holders.has(holder)) return false;
        held += more;
        this.#bytes += more;
        return true;
      },
      release: () => {
        if (this.#holders.delete(holder)) this.#bytes -= held;
      },
    };
    this.#holders.add(holder);
    return holder;
  }
}
