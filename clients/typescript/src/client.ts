/** A client of Spillway: what is posted is durable, what is read is whole, what is followed has no gap and no repeat. */
import { type Clock, systemClock } from "./clock.ts";
import { Http } from "./http.ts";
import { follow, frames } from "./live.ts";
import { Outbox } from "./outbox.ts";
import { pages, read } from "./pages.ts";
import type {
  Abortable,
  Acknowledged,
  ClientOptions,
  Event,
  FollowOptions,
  Frame,
  NewEvent,
  Page,
  ReadOptions,
} from "./types.ts";

export class SpillwayClient {
  readonly #http: Http;
  readonly #outbox: Outbox;

  /** @throws TypeError for an address that is none */
  constructor(options: ClientOptions, clock: Clock = systemClock) {
    this.#http = new Http(options, clock);
    this.#outbox = new Outbox(this.#http, options);
  }

  /**
   * Resolves once the event, or all of them, are durable. Calls are sent together and in order; each is stored whole or, when
   * one of its events is refused, not at all. Waits while the buffer is full. Leave the events unchanged until it ends.
   * @throws RefusedError, with the problems of each event; UnavailableError, with the ids to send again with
   */
  post(event: NewEvent, options?: Abortable): Promise<Acknowledged>;
  post(events: readonly NewEvent[], options?: Abortable): Promise<Acknowledged[]>;
  async post(
    given: NewEvent | readonly NewEvent[],
    { signal }: Abortable = {},
  ): Promise<Acknowledged | Acknowledged[] | undefined> {
    if (isMany(given)) return this.#outbox.post(given, signal);
    return (await this.#outbox.post([given], signal))[0];
  }

  /** A client's events, all those acknowledged before each page was asked for. @throws RefusedError, UnavailableError */
  read(clientId: string, options: ReadOptions = {}): AsyncGenerator<Event, void, undefined> {
    return read(this.#http, clientId, options);
  }

  /** The pages under `read`: where each ends, and how far the client's events are saved. */
  pages(clientId: string, options: ReadOptions = {}): AsyncGenerator<Page, void, undefined> {
    return pages(this.#http, clientId, options);
  }

  /** A client's events as they come, over any reconnects, each once and in order. Ends by `break` or its signal. @throws RefusedError */
  follow(clientId: string, options: FollowOptions = {}): AsyncGenerator<Event, void, undefined> {
    return follow(this.#http, clientId, options);
  }

  /** The frames under `follow`: also when it is caught up, has fallen behind, or was interrupted. */
  frames(clientId: string, options: FollowOptions = {}): AsyncGenerator<Frame, void, undefined> {
    return frames(this.#http, clientId, options);
  }

  /** Takes no more posts, and resolves once those under way have ended. Reading goes on. @param options the signal gives them up */
  close({ signal }: Abortable = {}): Promise<void> {
    return this.#outbox.close(signal);
  }
}

const isMany = (given: NewEvent | readonly NewEvent[]): given is readonly NewEvent[] => Array.isArray(given);
