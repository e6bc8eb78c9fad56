import { expect, test } from "vitest";
import type { Pool } from "#lib/postgres/pool.ts";
import { inHand } from "../../../apps/sink/epochs.ts";
import { keptLog } from "../../support/records.ts";

const log = (epoch: number, topic: string) => ({ epoch, topic, partitions: 4 * epoch });
const ALL = [log(1, "one"), log(2, "two"), log(3, "three")];

/** Which log is saved, as its topic and whether its checkpoints begin by themselves. */
async function saved(begun: readonly number[], { gone = [] as readonly string[], all = ALL } = {}): Promise<string> {
  const pool = { query: () => Promise.resolve(begun.map((epoch) => ({ epoch }))) } as unknown as Pool;
  const facts = (topic: string) => Promise.resolve(gone.includes(topic) ? undefined : {});
  const connected = { control: { identities: () => all }, admin: { facts } };
  const { identity, begins } = await inHand(pool, connected as never, keptLog());
  return `${identity.topic} ${begins}`;
}

test("a log is in hand until the checkpoints of its successor have begun", async () => {
  expect(await saved([1])).toBe("one true");
  expect(await saved([1, 2])).toBe("two false");
  expect(await saved([1, 2, 3])).toBe("three false");
  expect(await saved([1], { all: ALL.slice(0, 1) })).toBe("one true");
});

test("an empty database begins with the first log that is still there", async () => {
  expect(await saved([])).toBe("one true");
  expect(await saved([], { gone: ["one"] })).toBe("two true");
  expect(await saved([], { gone: ["one", "two"] })).toBe("three true");
  // Also for a sink that comes when another one has begun some of its partitions.
  expect(await saved([2], { gone: ["one"] })).toBe("two true");
  // The last one is made where it is missing.
  expect(await saved([], { gone: ["one", "two", "three"] })).toBe("three true");
});
