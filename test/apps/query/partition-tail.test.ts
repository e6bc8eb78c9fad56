import { expect, test } from "vitest";
import { PartitionTail, type Pin } from "../../../apps/query/partition-tail.ts";
import { someEvent } from "../../support/records.ts";

const event = (clientId: string, id: string, offset: bigint) => ({
  event: someEvent({ clientId, id }),
  offset,
  json: `${id}@${offset}`,
});

const shown = ({ array, from, to }: Pin): string[] => array.slice(from, to).map(({ json }) => json);

test("a pin keeps its records through growth, eviction and restart", () => {
  const tail = new PartitionTail(0n);
  const before = Array.from({ length: 500 }, (_, n) => event("a", `id-${n}`, BigInt(n)));
  tail.append(before, 500n);
  const pin = tail.pin("a");
  tail.append([event("a", "late", 500n)], 501n);
  tail.evict(400n);
  expect(shown(tail.pin("a"))).toHaveLength(101);
  tail.restart(0n);
  tail.append([event("a", "other", 0n)], 1n);
  expect(shown(pin)).toEqual(before.map(({ json }) => json));
  expect([pin.start, pin.next]).toEqual([0n, 500n]);
});

test("what is evicted is forgotten altogether", () => {
  const tail = new PartitionTail(10n);
  for (let round = 0; round < 100; round++) {
    const at = 10n + BigInt(round) * 10n;
    tail.append(
      Array.from({ length: 10 }, (_, n) => event(`client-${n % 3}`, `${at}-${n}`, at + BigInt(n))),
      at + 10n,
    );
    tail.evict(at + 5n);
    expect(tail.records).toBe(5);
  }
  tail.evict(tail.next);
  expect([tail.records, tail.bytes, tail.start]).toEqual([0, 0, tail.next]);
  expect(shown(tail.pin("client-0"))).toEqual([]);
});

test("of clients that always have a few events, not many more are kept alive", () => {
  const tail = new PartitionTail(0n);
  for (let n = 0; n < 500; n++) {
    tail.append([event("a", `${n}`, BigInt(n))], BigInt(n + 1));
    tail.evict(BigInt(n - 7));
    expect(tail.held("a").array.length).toBeLessThanOrEqual(8 + 4);
  }
});

test("an event points at the nearest earlier record of its identity that was held when it came", () => {
  const tail = new PartitionTail(0n);
  tail.append([event("a", "x", 0n), event("b", "x", 1n), event("a", "x", 2n), event("a", "x", 5n)], 6n);
  expect(tail.pin("a").array.map(({ previous }) => previous)).toEqual([-1n, 0n, 2n]);
  tail.evict(6n);
  tail.append([event("a", "x", 6n)], 7n);
  expect(tail.pin("a").array.at(-1)?.previous).toBe(-1n);
});

test("the end moves over records that are no events", () => {
  const tail = new PartitionTail(0n);
  tail.append([], 7n);
  expect([tail.next, tail.records]).toEqual([7n, 0]);
  tail.evict(20n);
  expect([tail.start, tail.next]).toEqual([20n, 20n]);
});

test("followers learn of what left unseen, and of nothing else", () => {
  const tail = new PartitionTail(5n);
  expect(tail.follow("a", 3n)).toBe(false);
  expect(tail.follow("a", 4n)).toBe(true);
  tail.append([event("b", "1", 5n), event("a", "2", 6n), event("b", "3", 7n)], 8n);
  tail.evict(6n);
  expect(tail.lost("a", 4n)).toBe(false);
  tail.evict(8n);
  expect([tail.lost("a", 5n), tail.lost("a", 6n)]).toEqual([true, false]);
  tail.restart(2n);
  // Offset 6 comes again; nothing at or below 1 ever left.
  expect([tail.lost("a", 0n), tail.lost("a", 1n)]).toEqual([true, false]);
  tail.unfollow("a");
  expect(tail.lost("a", -1n)).toBe(false);
});

test("text beyond Latin-1 is reckoned as twice its length", () => {
  const [plain, wide] = [new PartitionTail(0n), new PartitionTail(0n)];
  plain.append([{ ...event("a", "1", 0n), json: "e".repeat(1_000) }], 1n);
  wide.append([{ ...event("a", "1", 0n), json: "é".repeat(1_000) }], 1n);
  expect(wide.bytes - plain.bytes).toBe(1_000);
});
