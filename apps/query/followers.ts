/** Everybody who follows live on this node: who is to be woken by what. */
import type { Metrics } from "#lib/metrics.ts";
import type { Subscription } from "./subscription.ts";
import type { Tail } from "./tail.ts";
import type { Verdicts } from "./verdicts.ts";

export class Followers {
  readonly #byClient = new Map<string, Set<Subscription>>();
  readonly #metrics: Pick<Metrics, "querySubscribers">;
  #size = 0;

  constructor(tail: Tail, verdicts: Verdicts, metrics: Pick<Metrics, "querySubscribers">) {
    this.#metrics = metrics;
    tail.onNews = (clientIds) => this.#wake(clientIds);
    tail.onSkipped = (partition) => this.#wakeAll(partition);
    verdicts.onDecided = (clientIds) => this.#wake(clientIds);
  }

  add(subscription: Subscription): void {
    const others = this.#byClient.get(subscription.clientId) ?? new Set();
    this.#byClient.set(subscription.clientId, others.add(subscription));
    this.#metrics.querySubscribers.set(++this.#size);
  }

  remove(subscription: Subscription): void {
    const others = this.#byClient.get(subscription.clientId);
    if (!others?.delete(subscription)) return;
    this.#metrics.querySubscribers.set(--this.#size);
    if (others.size === 0) this.#byClient.delete(subscription.clientId);
  }

  #wake(clientIds: ReadonlySet<string>): void {
    for (const clientId of clientIds) for (const one of this.#byClient.get(clientId) ?? []) one.wake();
  }

  #wakeAll(partition: number): void {
    for (const all of this.#byClient.values()) for (const one of all) if (one.partition === partition) one.wake();
  }
}
