/**
 * Corrections of kafkajs 2.2.4, applied once, by importing this file. Each says what happens without it.
 */
import { systemClock } from "#lib/clock.ts";
import {
  Batch,
  Broker,
  brokersProtocol,
  Cluster,
  type RawBroker,
  type RawCluster,
  RequestQueue,
  type RequestQueueInstance,
} from "./internals.ts";

/** How often a queue whose requests wait for room looks again, ms; kafkajs' own figure. */
const LOOK_AGAIN_MS = 10;

/**
 * Without it the queue re-arms its timer with a negative delay for as long as a connection lives: 900 wake-ups a second
 * and 4 % of a core for each (measured). A timer is needed only while requests are held back.
 */
RequestQueue.prototype.scheduleCheckPendingRequests = function (this: RequestQueueInstance): void {
  if (this.throttleCheckTimeoutId) return;
  const waitMs = this.throttledUntil - systemClock.now();
  if (this.pending.length === 0 && waitMs <= 0) return;
  this.throttleCheckTimeoutId = systemClock.after(waitMs > 0 ? waitMs : LOOK_AGAIN_MS, () => {
    this.throttleCheckTimeoutId = null;
    this.checkPendingRequests();
  });
};

/** The timer above is known by its cancelling function, which `clearTimeout` does not understand. */
const { destroy } = RequestQueue.prototype;
RequestQueue.prototype.destroy = function (this: RequestQueueInstance): void {
  if (typeof this.throttleCheckTimeoutId === "function") this.throttleCheckTimeoutId();
  destroy.call(this);
};

/**
 * Without it a consumer passes over a batch of control or aborted records by itself: its owner never learns that those
 * offsets are done, and a wait for them would not end. With it such a batch is delivered, empty.
 */
Batch.prototype.isEmpty = function (): boolean {
  return this.rawMessages.length === 0;
};

/**
 * Two corrections of what a client asks of topics. Without the one, a client that ever asked for a topic fails for good,
 * whatever else it asks for, once that was deleted, as an old log may be: metadata of all its topics are asked for together, and
 * fail together. With it what is asked for next is asked for alone. Without the other, a client that has asked for no topic yet
 * asks for all that there are, and cannot connect while any partition of anybody's has no leader.
 */
const { connect } = Cluster.prototype;
Cluster.prototype.connect = function (this: RawCluster): Promise<void> {
  const { brokerPool } = this;
  if (!Object.hasOwn(brokerPool, "refreshMetadata")) correct(brokerPool, () => this.targetTopics.clear());
  return connect.call(this);
};

/** By this very array. */
const NO_TOPICS: readonly string[] = [];

function correct(brokerPool: RawCluster["brokerPool"], forget: () => void): void {
  const refresh = brokerPool.refreshMetadata.bind(brokerPool);
  brokerPool.refreshMetadata = async (topics) => {
    try {
      await refresh(topics.length === 0 ? NO_TOPICS : topics);
    } catch (error) {
      if (topics.length > 1 && (error as { type?: unknown }).type === "UNKNOWN_TOPIC_OR_PARTITION") forget();
      throw error;
    }
  };
}

const { metadata } = Broker.prototype;
Broker.prototype.metadata = function (this: RawBroker, topics): Promise<unknown> {
  return topics === NO_TOPICS ? this.connectionPool.send(brokersProtocol(this)) : metadata.call(this, topics);
};
