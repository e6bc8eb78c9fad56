/** Events back onto the log. The producer is opened for the first re-drive: most nodes never have one. */
import type { ConnectedLog, Surroundings } from "#lib/connect.ts";
import type { Position } from "#lib/cursor.ts";
import type { Event } from "#lib/event.ts";
import { LogError } from "#lib/kafka/ports.ts";
import type { Metrics } from "#lib/metrics.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { Publisher } from "#lib/publish.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import { Succession } from "#lib/succession.ts";
import { publishWriterSchema } from "#lib/topics.ts";

/** One re-drive at a time, of 8 MiB and one record at most. */
const IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024;
/** Of one append: a stop waits for it. */
const GIVE_UP_MS = 5_000;
/** A person waits. */
const TIMEOUT_MS = 10_000;

interface Open {
  readonly publisher: Publisher;
  close(): Promise<void>;
}

export class Republisher implements AsyncDisposable {
  readonly #connected: ConnectedLog;
  readonly #surroundings: Surroundings & { readonly metrics: Metrics };
  #open: Promise<Open> | null = null;

  constructor(connected: ConnectedLog, surroundings: Surroundings & { readonly metrics: Metrics }) {
    this.#connected = connected;
    this.#surroundings = surroundings;
  }

  /**
   * Appends events under their own clientIds' keys, in the order given.
   * @returns their positions, once all are durable
   * @throws ProblemError log-unreachable or overloaded: some may be on the log then
   */
  async publish(events: readonly Event[]): Promise<readonly Position[]> {
    try {
      const { publisher } = await this.#opened();
      return await publisher.publish(events);
    } catch (cause) {
      const passing = cause instanceof LogError || (cause instanceof NotAcknowledged && cause.reason !== "refused");
      if (!passing) throw cause;
      const code = cause instanceof NotAcknowledged && cause.reason === "overloaded" ? "overloaded" : "log-unreachable";
      const detail = `${cause.message}. Re-drive the same again: an event that is on the log already is still seen once.`;
      throw new ProblemError(problem(code, detail), { cause, retryAfterSeconds: 5 });
    }
  }

  /** Ends what was opened; what is under way is given up. */
  async [Symbol.asyncDispose](): Promise<void> {
    const opened = await this.#open?.catch(() => null);
    await opened?.close();
  }

  #opened(): Promise<Open> {
    this.#open ??= this.#connect().catch((error: unknown) => {
      this.#open = null;
      throw error;
    });
    return this.#open;
  }

  async #connect(): Promise<Open> {
    const { kafka, identity } = this.#connected;
    await publishWriterSchema(this.#connected);
    const producer = await kafka.producer(GIVE_UP_MS);
    const limits = { inFlightBytesMax: IN_FLIGHT_BYTES_MAX, timeoutMs: TIMEOUT_MS };
    const succession = new Succession(this.#connected, this.#surroundings);
    const isClosed = succession.isClosed.bind(succession);
    const publisher = new Publisher({ producer, identity, isClosed, ...limits, ...this.#surroundings });
    return { publisher, close: () => producer.close() };
  }
}
