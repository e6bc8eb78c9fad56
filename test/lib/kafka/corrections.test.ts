import { createRequire } from "node:module";
import { afterEach, expect, it } from "vitest";
import "#lib/kafka/corrections.ts";
import type { RequestQueueInstance } from "#lib/kafka/internals.ts";

interface Queue extends RequestQueueInstance {
  throttledUntil: number;
  push(request: unknown): void;
  fulfillRequest(answer: { correlationId: number; payload: Buffer; size: number }): void;
}

const load = createRequire(import.meta.url);
const RequestQueue = load("kafkajs/src/network/requestQueue/index.js") as new (options: unknown) => Queue;
const nothing = (): void => undefined;
const queues: Queue[] = [];

function newQueue(): Queue {
  const logger = { debug: nothing, warn: nothing };
  const queue = new RequestQueue({ maxInFlightRequests: 1, requestTimeout: 1_000, clientId: "c", broker: "b", logger });
  queues.push(queue);
  return queue;
}

function request(correlationId: number, sent: number[]): unknown {
  const entry = { correlationId, resolve: nothing, reject: nothing };
  return { entry, expectResponse: true, sendRequest: () => sent.push(correlationId) };
}

const answer = (correlationId: number) => ({ correlationId, payload: Buffer.alloc(0), size: 0 });

afterEach(() => {
  for (const queue of queues.splice(0)) queue.destroy();
});

it("a connection with nothing held back has no timer", () => {
  const queue = newQueue();
  queue.push(request(1, []));
  queue.fulfillRequest(answer(1));
  expect(queue.throttleCheckTimeoutId).toBe(null);
});

it("a request that waits for room goes out when there is some, and the timer ends by itself", async () => {
  const queue = newQueue();
  const sent: number[] = [];
  queue.push(request(1, sent));
  queue.push(request(2, sent));
  expect(sent).toEqual([1]);
  expect(queue.throttleCheckTimeoutId).not.toBe(null);
  queue.fulfillRequest(answer(1));
  expect(sent).toEqual([1, 2]);
  queue.fulfillRequest(answer(2));
  await expect.poll(() => queue.throttleCheckTimeoutId).toBe(null);
});

it("a request that the broker asked to hold back goes out when that is over", async () => {
  const queue = newQueue();
  const sent: number[] = [];
  queue.throttledUntil = Date.now() + 50;
  queue.push(request(1, sent));
  expect(sent).toEqual([]);
  await expect.poll(() => sent).toEqual([1]);
});

it("a closed connection has no timer either", () => {
  const queue = newQueue();
  queue.throttledUntil = Date.now() + 60_000;
  queue.push(request(1, []));
  expect(queue.throttleCheckTimeoutId).not.toBe(null);
  queue.destroy();
  expect(queue.throttleCheckTimeoutId).toBe(null);
});
