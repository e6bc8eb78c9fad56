import { expect, test } from "vitest";
import type { LogIdentity, Successor } from "#lib/control.ts";
import { LogError } from "#lib/kafka/ports.ts";
import { CLOSED_TOPIC_CONFIG } from "#schemas/topics.ts";
import { Adoption } from "../../infra/adopt-log/adopt.ts";
import { fakeClock } from "../support/fake-clock.ts";
import { silentLog } from "../support/records.ts";

const OLD: LogIdentity = { epoch: 1, topic: "old", partitions: 2 };
const NEW = { topic: "new", partitions: 4 };
const FIT = {
  "cleanup.policy": "delete",
  "max.message.bytes": "1048588",
  "min.insync.replicas": "2",
  "retention.ms": "-1",
  "retention.bytes": "-1",
  "message.timestamp.type": "LogAppendTime",
};

interface Given {
  readonly unsaved?: number;
  readonly held?: bigint;
  readonly config?: object;
  readonly replication?: number;
  /** So often the new topic's partitions have no leader yet. */
  readonly leaderless?: number;
  /** Each refusal of the closed topic's leaders takes so long. */
  readonly refusalMs?: number;
  readonly old?: LogIdentity;
}

/** A log with so many unsaved records in each partition, and what the command did to it. */
function scene({
  unsaved = 0,
  held = 0n,
  config = FIT,
  replication = 3,
  leaderless = 0,
  refusalMs = 0,
  old = OLD,
}: Given = {}) {
  const clock = fakeClock();
  const state: {
    unsaved: number;
    identities: LogIdentity[];
    successor?: Successor;
    isClosed?: boolean;
    /** So many of the next records for the control topic get no answer. */
    unanswered?: number;
    /** So many of the next questions for the ends of the log in use meet no leader. */
    electing?: number;
    saved?: bigint[];
  } = {
    unsaved,
    identities: [old],
  };
  const done: string[] = [];
  const said: string[] = [];
  const noRange = { low: 0n, high: 1_000_000n };
  const connected = {
    identity: old,
    admin: {
      facts: () =>
        Promise.resolve({ partitions: 2, replication: 3, config: state.isClosed ? CLOSED_TOPIC_CONFIG : FIT }),
      ensureTopic: (spec: typeof NEW) => Promise.resolve({ partitions: spec.partitions, replication, config }),
      offsets: () =>
        leaderless-- > 0
          ? Promise.reject(new LogError("retriable", "not the leader"))
          : Promise.resolve(new Map([[0, { low: 0n, high: held }]])),
      configure: (topic: string, changes: object) => {
        done.push(`configure ${topic} ${JSON.stringify(changes)}`);
        return Promise.resolve();
      },
    },
    reader: {
      offsets: (_: string, all: readonly number[]) => Promise.resolve(new Map(all.map((one) => [one, noRange]))),
      leaderEnds: (_: string, all: readonly number[]) => {
        state.electing = (state.electing ?? 0) - 1;
        if (state.electing >= 0) return Promise.reject(new LogError("retriable", "not the leader"));
        return Promise.resolve(new Map(all.map((one) => [one, 1_000_000n])));
      },
    },
    control: {
      identities: () => state.identities,
      successor: () => state.successor,
      refresh: () => Promise.resolve(),
      checkpoint: (_: number, partition: number) => ({
        nextOffset: state.saved?.[partition] ?? 1_000_000n - BigInt(state.unsaved),
        atMs: 0,
      }),
    },
    controlWriter: {
      successor: (epoch: number, next: LogIdentity | null) => {
        done.push(next ? `announce ${next.epoch} after ${epoch}` : "withdraw");
        state.unanswered = (state.unanswered ?? 0) - 1;
        return state.unanswered < 0 ? Promise.resolve() : Promise.reject(new LogError("retriable", "no end"));
      },
      identity: (next: LogIdentity) => {
        done.push(`adopt ${next.topic}`);
        return Promise.resolve();
      },
    },
    kafka: {
      producer: () =>
        Promise.resolve({
          append: async () => {
            if (refusalMs > 0) await clock.sleep(refusalMs);
            throw Object.assign(new Error("too large"), { type: "MESSAGE_TOO_LARGE" });
          },
          close: () => Promise.resolve(),
        }),
    },
  };
  const adoption = new Adoption(connected as never, { clock, log: silentLog, say: (line) => void said.push(line) });
  const run = (wanted = NEW): Promise<string> =>
    adoption.run(wanted, new AbortController().signal).then(
      () => "adopted",
      (error: Error) => error.message,
    );
  return { clock, state, done, said, run };
}

test("it waits until the sinks have nearly caught up, and changes nothing before", async () => {
  const { clock, state, done, said, run } = scene({ unsaved: 50_000 });
  const adopted = run();
  await clock.advance(60_000);
  expect(done).toEqual([]);
  expect(said.join("\n")).toContain("100,000 records are unsaved");
  state.unsaved = 0;
  await clock.advance(2_000);
  expect(await adopted).toBe("adopted");
});

test("announced, saved whole, closed, adopted: in this order", async () => {
  const { clock, state, done, run } = scene({ unsaved: 3 });
  const adopted = run();
  await clock.advance(5_000);
  expect(done).toEqual(["announce 2 after 1"]);
  state.unsaved = 0;
  await clock.advance(1_000);
  expect(await adopted).toBe("adopted");
  expect(done).toEqual(["announce 2 after 1", 'configure old {"max.message.bytes":"0"}', "adopt new"]);
});

test("a new topic's leaders are waited for, and not for ever", async () => {
  const slow = scene({ leaderless: 3 });
  const adopted = slow.run();
  await slow.clock.advance(10_000);
  expect(await adopted).toBe("adopted");
  const never = scene({ leaderless: 1_000 });
  const ended = never.run();
  await never.clock.advance(60_000);
  expect(await ended).toBe("not the leader");
  expect(never.done).toEqual([]);
});

test("what is not saved in time is withdrawn well before events go on by themselves, and nothing is closed", async () => {
  const { clock, done, run } = scene({ unsaved: 3 });
  const ended = run();
  await clock.advance(21_000);
  expect(await ended).toMatch(/6 records were still unsaved: look whether every sink is ready/);
  expect(done).toEqual(["announce 2 after 1", "withdraw"]);
});

test("an announcement that may have been stored is withdrawn, or else it is told how long events may wait", async () => {
  for (const [unanswered, last] of [
    [1, "Events go on to the log that was in use: nothing was changed."],
    [2, "Events go on to the log that was in use by themselves, within 30 s: nothing was changed."],
  ] as const) {
    const { state, done, said, run } = scene();
    state.unanswered = unanswered;
    expect(await run()).toBe("no end");
    expect([done, said.at(-1)]).toEqual([["announce 2 after 1", "withdraw"], last]);
  }
});

test("leaders that move while events wait are waited for, as long as for what is unsaved", async () => {
  for (const [electing, wanted] of [
    [50, "adopted"],
    [10_000, "not the leader"],
  ] as const) {
    const { clock, state, done, run } = scene();
    const ended = run();
    await clock.advance(300);
    expect(done).toEqual(["announce 2 after 1"]);
    state.electing = electing;
    await clock.advance(21_000);
    expect(await ended).toBe(wanted);
    expect(done.at(-1)).toBe(wanted === "adopted" ? "adopt new" : "withdraw");
  }
});

test("a topic that held records, or would break a promise, or was a log before is refused before anything happens", async () => {
  const held = scene({ held: 5n });
  expect(await held.run()).toMatch(/new has held records already/);
  const thin = scene({ replication: 1 });
  expect(await thin.run()).toMatch(/new has replication 1, and old has 3: delete it/);
  expect(thin.done).toEqual([]);
  const unfit = scene({ config: { ...FIT, "cleanup.policy": "compact" } });
  expect(await unfit.run()).toMatch(/cleanup.policy=compact/);
  const before = scene();
  before.state.identities = [{ epoch: 0, topic: "new", partitions: 4 }, OLD];
  expect(await before.run()).toMatch(/new \(epoch 0, 4 partitions\) was a log before/);
  expect([...held.done, ...unfit.done, ...before.done]).toEqual([]);
});

test("what is in use already needs nothing, and keeps its partitions", async () => {
  const { done, said, run } = scene();
  expect(await run({ topic: "old", partitions: 2 })).toBe("adopted");
  expect(said).toEqual(["old (epoch 1, 2 partitions) is in use already. Nothing to do."]);
  expect(await run({ topic: "old", partitions: 3 })).toMatch(/a log's partitions never change/);
  expect(done).toEqual([]);
});

test("two commands at once with different topics: the second one is refused", async () => {
  const { clock, state, done, run } = scene();
  state.successor = { identity: { epoch: 2, topic: "other", partitions: 4 }, atMs: clock.now() };
  expect(await run()).toMatch(/other \(epoch 2, 4 partitions\) is announced to succeed it/);
  delete state.successor;
  state.identities = [OLD, { epoch: 2, topic: "other", partitions: 4 }];
  const late = run();
  await clock.advance(2_000);
  expect(await late).toMatch(/other succeeds it already/);
  expect(done).not.toContain("adopt new");
});

const OTHER = { epoch: 2, topic: "other", partitions: 4 };

test("two commands that began at once: the one whose announcement was overwritten changes nothing more", async () => {
  const { clock, state, done, run } = scene({ unsaved: 3 });
  const ended = run();
  await clock.advance(1_000);
  state.successor = { identity: OTHER, atMs: clock.now() };
  state.unsaved = 0;
  await clock.advance(1_000);
  expect(await ended).toMatch(/other \(epoch 2, 4 partitions\) is announced to succeed it/);
  expect(done).toEqual(["announce 2 after 1"]);
});

test("a command that was asleep while the topic was being closed puts its log over no other one", async () => {
  const { clock, state, done, run } = scene({ refusalMs: 5_000 });
  const ended = run();
  await clock.advance(2_000);
  expect(done).toContain('configure old {"max.message.bytes":"0"}');
  state.identities = [OLD, OTHER];
  await clock.advance(10_000);
  expect(await ended).toMatch(/other succeeds it already/);
  expect(done).not.toContain("adopt new");
});

test("a log that is closed already is succeeded by what was announced then, and by nothing else", async () => {
  const { clock, state, done, run } = scene();
  state.successor = { identity: OTHER, atMs: clock.now() };
  state.isClosed = true;
  await clock.advance(60_000);
  expect(await run()).toMatch(
    /old is closed, and other \(epoch 2, 4 partitions\) is to succeed it: run this with that/,
  );
  expect(done).toEqual([]);
});

test("the more partitions, the longer it may take to close them", async () => {
  const { clock, done, run } = scene({ refusalMs: 500, old: { ...OLD, partitions: 400 } });
  const adopted = run();
  await clock.advance(120_000);
  expect(await adopted).toBe("adopted");
  expect(done.at(-1)).toBe("adopt new");
});

test("what was saved beyond one partition's end makes up for nothing of another one", async () => {
  const { clock, state, done, run } = scene();
  state.saved = [1_000_005n, 999_995n];
  const ended = run();
  await clock.advance(10_000);
  expect(done).toEqual(["announce 2 after 1"]);
  delete state.saved;
  await clock.advance(2_000);
  expect(await ended).toBe("adopted");
});
