import { expect, test } from "vitest";
import { Room } from "#lib/room.ts";
import { fakeClock } from "../support/fake-clock.ts";

const never = (): void => expect.unreachable("gave way");

test("holds what it has room for, and takes back what is released, once", () => {
  const room = new Room(10, fakeClock());
  const first = room.take(6, never);
  expect(first?.grow(5)).toBe(false);
  expect(first?.grow(4)).toBe(true);
  expect(room.take(1, never)).toBeNull();
  first?.release();
  first?.release();
  expect(room.bytes).toBe(0);
  expect(room.take(10, never)).not.toBeNull();
});

test("those who have held on for 10 s give way, the oldest first and no more than needed", async () => {
  const clock = fakeClock();
  const room = new Room(10, clock);
  const ended: string[] = [];
  const hold = (name: string, bytes: number) => room.take(bytes, () => void ended.push(name));
  hold("a", 4);
  await clock.advance(1);
  hold("b", 4);
  hold("c", 2);
  await clock.advance(9_998);
  expect([room.has(1), ended]).toEqual([false, []]);
  await clock.advance(1);
  expect([room.has(5), ended]).toEqual([false, ["a"]]);
  await clock.advance(1);
  expect([room.has(5), ended]).toEqual([true, ["a", "b"]]);
  expect(room.bytes).toBe(2);
});

test("nobody gives way to what has no room at all", async () => {
  const clock = fakeClock();
  const room = new Room(10, clock);
  room.take(10, never);
  await clock.advance(60_000);
  expect(room.has(11)).toBe(false);
});

test("one that gives way while it grows has not grown", async () => {
  const clock = fakeClock();
  const room = new Room(10, clock);
  let ended = 0;
  const only = room.take(8, () => ended++);
  await clock.advance(60_000);
  expect([only?.grow(4), ended, room.bytes]).toEqual([false, 1, 0]);
});
