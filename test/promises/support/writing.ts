/** Events of a few clients, written in a random but repeatable way, some of them sent again. */
import { until } from "../../support/until.ts";
import type { NewEvent } from "./content.ts";
import type { Node, Producer } from "./producer.ts";

/** Uniform in [0, 1), always the same row for the same seed (mulberry32). */
export function chance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface WritingOptions {
  readonly clients: readonly string[];
  readonly nodes: readonly Node[];
  readonly seed: number;
  /** Bytes of `data`, about; default 40. */
  readonly dataBytes?: number;
  /** Share of requests that repeat events sent before; default 0.05. */
  readonly resent?: number;
}

/** Requests under way at once. */
const LANES = 6;
const BATCH_EVENTS_MAX = 8;
const RESENDABLE_EVENTS_MAX = 2_000;

export class Writing {
  readonly #producer: Producer;
  readonly #options: WritingOptions;
  readonly #chance: () => number;
  readonly #sent: NewEvent[] = [];
  readonly #perClient = new Map<string, string[]>();
  #made = 0;
  #delivered = 0;

  constructor(producer: Producer, options: WritingOptions) {
    this.#producer = producer;
    this.#options = options;
    this.#chance = chance(options.seed);
  }

  /** Events acknowledged, resent ones too. */
  get delivered(): number {
    return this.#delivered;
  }

  /** Ids written for a client so far, acknowledged or under way. */
  idsOf(clientId: string): readonly string[] {
    return this.#perClient.get(clientId) ?? [];
  }

  /** Writes so many events and resolves once all are acknowledged, however long the nodes are away. */
  async write(events: number, limitMs?: number): Promise<void> {
    let left = events;
    const lane = async (): Promise<void> => {
      while (left > 0) {
        const batch = this.#batch(Math.min(left, 1 + this.#below(BATCH_EVENTS_MAX)));
        left -= batch.length;
        await this.#deliver(batch, limitMs);
        if (this.#chance() < (this.#options.resent ?? 0.05)) await this.#deliver([this.#anyOf(this.#sent)], limitMs);
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
  }

  /** Writes on and on, until `stop` is called; that resolves once everything begun is acknowledged. */
  keepOn(eventsMax: number): { stop(): Promise<void>; more(events: number, limitMs?: number): Promise<void> } {
    const stopping = new AbortController();
    const writing = (async () => {
      for (let written = 0; !stopping.signal.aborted && written < eventsMax; written += 20) await this.write(20);
    })();
    // Looked at in `stop`.
    writing.catch(() => undefined);
    return {
      stop: async () => {
        stopping.abort();
        await writing;
      },
      more: async (events, limitMs = 60_000) => {
        const target = this.#delivered + events;
        await until(`${events} more acknowledgements`, () => this.#delivered >= target, { limitMs });
      },
    };
  }

  async #deliver(events: readonly NewEvent[], limitMs?: number): Promise<void> {
    const { nodes } = this.#options;
    const from = this.#below(nodes.length);
    await this.#producer.deliver([...nodes.slice(from), ...nodes.slice(0, from)], events, limitMs);
    this.#delivered += events.length;
    if (this.#sent.length < RESENDABLE_EVENTS_MAX) this.#sent.push(...events);
  }

  #batch(size: number): NewEvent[] {
    return Array.from({ length: size }, () => {
      const clientId = this.#anyOf(this.#options.clients);
      const n = this.#made++;
      const event: NewEvent = {
        clientId,
        id: `e${n}`,
        type: `t${n % 3}`,
        occurredAt: new Date(1_700_000_000_000 + n).toISOString(),
        data: { n, text: "x".repeat(this.#options.dataBytes ?? 40) },
      };
      const ids = this.#perClient.get(clientId) ?? [];
      ids.push(event.id);
      this.#perClient.set(clientId, ids);
      return event;
    });
  }

  #below(limit: number): number {
    return Math.floor(this.#chance() * limit);
  }

  #anyOf<T>(all: readonly T[]): T {
    return all[this.#below(all.length)] as T;
  }
}
