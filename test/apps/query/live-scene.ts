/** The live parts of a node: a tail that the test fills, a store that it answers for, and its routes on a real server. */
import type { AddressInfo } from "node:net";
import { type KeyRing, parseKeys } from "#lib/access.ts";
import type { Clock } from "#lib/clock.ts";
import type { Event } from "#lib/event.ts";
import { eventJson } from "#lib/event.ts";
import { createServer, type Server } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { partitionOf } from "#lib/partition.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { type Live, liveNode } from "../../../apps/query/live-node.ts";
import { registerLive } from "../../../apps/query/live-routes.ts";
import { ClientOrder, comparePlaces, type Epochs, type Place } from "../../../apps/query/places.ts";
import type { Page, PageQuery } from "../../../apps/query/read.ts";
import { Tail } from "../../../apps/query/tail.ts";
import { Verdicts } from "../../../apps/query/verdicts.ts";
import { silentLog as log, someEvent } from "../../support/records.ts";
import { ManualClock } from "./model.ts";

const EPOCHS: Epochs = { epoch: 1, partitions: new Map([[1, 2]]) };

export interface Shown {
  readonly event: Event;
  readonly place: Place;
  readonly cursor: string;
  readonly json: string;
}

export class LiveScene {
  readonly clock: ManualClock = new ManualClock();
  readonly metrics = createMetrics();
  readonly tail: Tail;
  readonly live: Live;
  readonly events: Shown[] = [];
  /** Page reads: whose, in the order in which they began, and how many at once at most. */
  readonly reads = { of: [] as string[], now: 0, most: 0 };
  /** Set, page reads wait for it. */
  held: Promise<void> | null = null;
  /** Set, the log does not tell its end. */
  away = false;
  #nextId = 0;
  readonly #next = [0n, 0n];

  constructor(heartbeatMs = 15_000) {
    const starts = new Map([0, 1].map((partition) => [partition, { start: 0n, logStart: 0n }]));
    const clock: Clock = this.clock;
    const { metrics } = this;
    this.tail = new Tail({ bytesMax: 1 << 30, log, clock, metrics } as ConstructorParameters<typeof Tail>[0], starts);
    const { tail } = this;
    const verdicts = new Verdicts({
      epoch: 1,
      succeeds: false,
      partitionOf: (clientId) => this.order(clientId).partition,
      rows: {
        verdicts: (_epoch, events) =>
          Promise.resolve({
            checkpoints: new Map([0, 1].map((n) => [n, tail.partition(n).start])),
            places: events.map(() => null),
          }),
      },
      tail,
      checkpoints: { away: false, failed: () => true, observe: () => undefined },
      clock,
      metrics,
    });
    const reader = { read: (order: ClientOrder, query: PageQuery) => this.#read(order, query) };
    const mark = ({ partition }: ClientOrder): Promise<bigint> =>
      this.away
        ? Promise.reject(new ProblemError(problem("log-unreachable", "It is away.")))
        : Promise.resolve(tail.partition(partition).next);
    this.live = liveNode({ reader, reach: { mark }, tail, verdicts, clock, log, metrics, heartbeatMs });
  }

  order(clientId: string): ClientOrder {
    return new ClientOrder(clientId, EPOCHS);
  }

  /** One event each, on the log and read by this node. */
  append(...given: readonly (string | Partial<Event>)[]): Shown[] {
    const shown = given.map((one) => this.#place(typeof one === "string" ? { clientId: one } : one));
    for (const partition of [0, 1]) {
      const mine = shown.filter(({ event }) => partitionOf(Buffer.from(event.clientId), 2) === partition);
      const last = mine.at(-1);
      if (last === undefined) continue;
      const news = mine.map(({ event, place, json }) => ({ event, offset: place.offset, json }));
      this.tail.take(partition, this.tail.partition(partition).next, news, last.place.offset + 1n);
    }
    return shown;
  }

  /** Everything so far is saved, and leaves the tail. */
  save(): void {
    for (const partition of [0, 1]) this.tail.partition(partition).evict(this.tail.partition(partition).next);
  }

  /** What a client was to be shown. */
  jsonOf(clientId: string): string[] {
    return this.events.filter(({ event }) => event.clientId === clientId).map(({ json }) => json);
  }

  /** Its live route on a free port. @param keys as in a key file */
  async serve(keys?: readonly object[]): Promise<{ server: Server; url: string } & AsyncDisposable> {
    const access: KeyRing | null = keys ? parseKeys(JSON.stringify(keys)) : null;
    const server = await createServer({
      log,
      metrics: createMetrics(),
      access,
      ready: () => ({ ready: true, missing: [], degraded: [] }),
      title: "T",
    });
    const query = {
      order: (clientId: string) => this.order(clientId),
      live: () => this.live,
      onLeft: () => undefined,
      explained: (error: unknown) => Promise.resolve(error),
    };
    await registerLive(server, { query, log, clock: this.clock });
    await server.listen({ host: "127.0.0.1", port: 0 });
    const { port } = server.server.address() as AddressInfo;
    return { server, url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: () => server.close() };
  }

  #place(given: Partial<Event>): Shown {
    const event = someEvent({ id: `id-${this.#nextId++}`, ...given });
    const order = this.order(event.clientId);
    const offset = this.#next[order.partition] ?? 0n;
    this.#next[order.partition] = offset + 1n;
    const place = { epoch: 1, offset };
    const cursor = order.cursor(place);
    const shown = { event, place, cursor, json: eventJson(event, cursor) };
    this.events.push(shown);
    return shown;
  }

  async #read(order: ClientOrder, { after, types, limit }: PageQuery): Promise<Page> {
    this.reads.of.push(order.clientId);
    this.reads.now++;
    this.reads.most = Math.max(this.reads.most, this.reads.now);
    await (this.held ?? this.clock.turn());
    this.reads.now--;
    const rest = this.events.filter(
      ({ event, place }) =>
        event.clientId === order.clientId &&
        comparePlaces(place, after) > 0 &&
        (types === null || types.has(event.type)),
    );
    const page = rest.slice(0, limit);
    const end = { epoch: 1, offset: this.tail.partition(order.partition).next - 1n };
    const hasMore = page.length < rest.length;
    return {
      events: page.map(({ json }) => json),
      next: hasMore ? (page.at(-1)?.place ?? end) : end,
      hasMore,
      savedThrough: null,
    };
  }
}
