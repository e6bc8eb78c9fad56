import { expect, test } from "vitest";
import { type Ask, Coalescer, type Question, TOO_LARGE, WAITING_MAX } from "../../../apps/query/coalesce.ts";
import { ANSWERS_BYTES_MAX, type Form } from "../../../apps/query/queues.ts";
import { isPassing } from "../../../lib/postgres/sqlstate.ts";
import { ProblemError } from "../../../lib/problem.ts";
import { ManualClock } from "./model.ts";

const LIGHT: Form = { together: 64, heavy: false };
const OTHER: Form = { together: 64, heavy: false };
const HEAVY: Form = { together: 4, heavy: true };

class Named implements Question {
  readonly form: Form;
  readonly key: string;
  readonly bytes: number;
  readonly joined: string[];

  constructor(key: string, { form = LIGHT, bytes = 1_000, besides = key } = {}) {
    this.form = form;
    this.key = key;
    this.bytes = bytes;
    this.joined = [besides];
  }

  join({ joined }: this): void {
    this.joined.push(...joined);
  }
}

/** A database that is answered by hand: `begun[n]` is the n-th statement. */
function scene(connections = 1) {
  const begun: {
    readonly keys: readonly string[];
    readonly questions: readonly Named[];
    readonly timeoutMs: number;
    answer(of?: (key: string) => string | typeof TOO_LARGE): Promise<void>;
    fail(error: Error): Promise<void>;
  }[] = [];
  const clock = new ManualClock();
  const ask: Ask<Named, string> = (questions, timeoutMs) => {
    const { promise, resolve, reject } = Promise.withResolvers<readonly (string | typeof TOO_LARGE)[]>();
    const keys = questions.map(({ key }) => key);
    begun.push({
      keys,
      questions,
      timeoutMs,
      answer: (of = (key) => key.toUpperCase()) => {
        resolve(keys.map(of));
        return settle();
      },
      fail: (error) => {
        reject(error);
        return settle();
      },
    });
    return promise;
  };
  const waits: number[] = [];
  const coalescer = new Coalescer(connections, clock, ask, (ms) => void waits.push(ms));
  const asked = (
    key: string,
    timeoutMs = 1_000,
    more: ConstructorParameters<typeof Named>[1] = {},
  ): Promise<string> => {
    const answer = coalescer.ask(new Named(key, more), timeoutMs);
    // A test that looks at it later finds it rejected by then.
    answer.catch(() => undefined);
    return answer;
  };
  /** One statement that has the only connection. */
  const busy = async (): Promise<(typeof begun)[number]> => {
    void asked("busy");
    await settle();
    return begun[0] as (typeof begun)[number];
  };
  const sent = (): string[] => begun.map(({ keys }) => keys.join(" "));
  return { begun, clock, asked, busy, sent, waits };
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};
const numbered = (count: number): string[] => Array.from({ length: count }, (_, n) => `q${n}`);
const refused = (code: string): Error => Object.assign(new Error(`refused with ${code}`), { code });

test("a lone question goes at once, those that wait meanwhile go together, in order, as many as are allowed", async () => {
  const { begun, asked, busy, sent } = scene();
  const { answer } = await busy();
  expect(sent()).toEqual(["busy"]);
  const answers = numbered(100).map((key) => asked(key));
  await settle();
  expect(begun).toHaveLength(1);
  await answer();
  expect(sent()).toEqual(["busy", numbered(100).slice(0, 64).join(" ")]);
  await begun[1]?.answer();
  await begun[2]?.answer();
  expect(await Promise.all(answers)).toEqual(numbered(100).map((key) => key.toUpperCase()));
  expect(begun).toHaveLength(3);
});

test("there are never more statements than connections", async () => {
  const { begun, asked } = scene(3);
  for (const key of numbered(5)) {
    void asked(key);
    await settle();
  }
  expect(begun.map(({ keys }) => keys)).toEqual([["q0"], ["q1"], ["q2"]]);
  await begun[1]?.answer();
  expect(begun.map(({ keys }) => keys).slice(3)).toEqual([["q3", "q4"]]);
});

test("how long each waited for a statement is told, once, also of those who gave up", async () => {
  const { begun, clock, asked, busy, waits } = scene();
  const { answer } = await busy();
  for (const key of ["a", "a", "b"]) void asked(key);
  const short = asked("c", 200);
  clock.advance(200);
  await expect(short).rejects.toThrow("timeout exceeded");
  clock.advance(100);
  await answer();
  expect(waits).toEqual([0, 200, 300, 300, 300]);
  // Asked for again, alone: it has waited already.
  await begun[1]?.answer((key) => (key === "a" ? TOO_LARGE : key));
  expect(begun[2]?.keys).toEqual(["a"]);
  expect(waits).toHaveLength(5);
});

test("a crowd that comes in one turn, as from a read barrier, is one statement", async () => {
  const { asked, sent } = scene(3);
  for (const key of numbered(5)) void asked(key);
  await settle();
  expect(sent()).toEqual([numbered(5).join(" ")]);
});

test("equal questions are one, also with what they ask besides; but never one that is under way", async () => {
  const { begun, asked, busy } = scene();
  const { answer } = await busy();
  const crowd = ["a", "b", "c"].map((besides) => asked("hot", 1_000, { besides }));
  await answer();
  expect(begun[1]?.keys).toEqual(["hot"]);
  expect(begun[1]?.questions[0]?.joined).toEqual(["a", "b", "c"]);
  const late = asked("hot");
  await begun[1]?.answer(() => "early");
  expect(new Set(await Promise.all(crowd))).toEqual(new Set(["early"]));
  await begun[2]?.answer(() => "late");
  expect(await late).toBe("late");
});

test("a statement is expected to hold no more than its bound, and its first question always goes", async () => {
  const { begun, asked, busy, sent } = scene();
  const { answer } = await busy();
  const third = { bytes: ANSWERS_BYTES_MAX / 3 };
  for (const key of ["a", "b", "c", "d"]) void asked(key, 1_000, third);
  void asked("huge", 1_000, { bytes: 2 * ANSWERS_BYTES_MAX });
  void asked("e", 1_000, third);
  await answer();
  for (const nth of [1, 2, 3]) await begun[nth]?.answer();
  expect(sent()).toEqual(["busy", "a b c", "d", "huge", "e"]);
});

test("whoever waits longest is next, whatever the form", async () => {
  const { begun, asked, busy, sent } = scene();
  const { answer } = await busy();
  void asked("a", 1_000, { form: OTHER });
  void asked("b");
  void asked("c", 1_000, { form: HEAVY });
  void asked("d");
  void asked("e", 1_000, { form: OTHER });
  await answer();
  for (const nth of [1, 2]) await begun[nth]?.answer();
  expect(sent()).toEqual(["busy", "a e", "b d", "c"]);
});

test("heavy questions leave a connection to light ones, and wait no longer than for the next that they may have", async () => {
  const { begun, asked, sent } = scene(3);
  for (const key of numbered(12)) void asked(key, 1_000, { form: HEAVY });
  await settle();
  expect(sent()).toEqual(["q0 q1 q2 q3", "q4 q5 q6 q7"]);
  void asked("light");
  await settle();
  expect(sent().slice(2)).toEqual(["light"]);
  await begun[2]?.answer();
  expect(begun).toHaveLength(3);
  await begun[0]?.answer();
  expect(sent().slice(3)).toEqual(["q8 q9 q10 q11"]);
});

test("with a single connection heavy questions have their turn too", async () => {
  const { asked, sent } = scene(1);
  void asked("q", 1_000, { form: HEAVY });
  await settle();
  expect(sent()).toEqual(["q"]);
});

test("who waits too long is told so, and is not asked for; a question goes as long as anybody wants its answer", async () => {
  const { begun, clock, asked, busy } = scene();
  const { answer } = await busy();
  const [hasty, other, patient] = [asked("a", 100), asked("b", 100), asked("b", 900)];
  clock.advance(100);
  for (const late of [hasty, other]) {
    const error = await late.catch((why: unknown) => why);
    expect((error as Error).message).toMatch("trying to connect");
    expect(isPassing(error)).toBe(true);
  }
  await answer();
  expect(begun[1]?.keys).toEqual(["b"]);
  await begun[1]?.answer();
  expect(await patient).toBe("B");
  expect(clock.timers).toBe(0);
});

test("nobody waits more than two seconds for a connection, and whoever has one has all of his time", async () => {
  const { clock, asked, busy, begun } = scene();
  await busy();
  const waiting = asked("a", 25_000);
  clock.advance(2_000);
  await expect(waiting).rejects.toThrow("trying to connect");
  const asking = asked("b", 25_000);
  clock.advance(1_999);
  await begun[0]?.answer();
  expect(begun[1]?.timeoutMs).toBe(23_001);
  clock.advance(20_000);
  await begun[1]?.answer();
  expect(await asking).toBe("B");
});

test("each leaves a statement at his own deadline; the statement has as long as the most patient", async () => {
  const { begun, clock, asked, busy } = scene();
  const { answer } = await busy();
  const [hasty, patient] = [asked("a", 300), asked("b", 900)];
  clock.advance(100);
  await answer();
  expect(begun[1]?.timeoutMs).toBe(800);
  clock.advance(200);
  await expect(hasty).rejects.toThrow("Query read timeout");
  await begun[1]?.answer();
  expect(await patient).toBe("B");
  const again = [asked("a", 300), asked("b", 900)];
  await settle();
  await begun[2]?.answer();
  expect(await Promise.all(again)).toEqual(["A", "B"]);
  expect(clock.timers).toBe(0);
});

test("an answer too large for a statement with others is asked for alone, and holds no more than its share of connections", async () => {
  const { begun, asked, sent } = scene(2);
  const answers = ["a", "b", "c"].map((key) => asked(key));
  await settle();
  await begun[0]?.answer((key) => (key === "b" ? "small" : TOO_LARGE));
  expect(await answers[1]).toBe("small");
  // The other connection is for what is not large.
  expect(sent()).toEqual(["a b c", "a"]);
  const joined = asked("c");
  await begun[1]?.answer();
  await begun[2]?.answer();
  expect(await Promise.all([answers[0], answers[2], joined])).toEqual(["A", "C", "C"]);
  expect(sent()).toEqual(["a b c", "a", "c"]);
});

test("two statements that both found one question too large ask for it once more, together", async () => {
  const { begun, asked, sent } = scene(3);
  const first = [asked("a"), asked("b")];
  await settle();
  const second = [asked("b"), asked("c")];
  await settle();
  void asked("heavy", 1_000, { form: HEAVY });
  await settle();
  await begun[0]?.answer(() => TOO_LARGE);
  await begun[1]?.answer(() => TOO_LARGE);
  expect(sent()).toEqual(["a b", "b c", "heavy", "a"]);
  for (let nth = 2; nth < 6; nth++) await begun[nth]?.answer();
  expect(await Promise.all([...first, ...second])).toEqual(["A", "B", "B", "C"]);
  expect(sent().slice(4)).toEqual(["b", "c"]);
});

test.each(["22P02", "57014", "42P01"])("a refusal with %s hits only the question that causes it", async (code) => {
  const { begun, asked } = scene();
  const answers = ["a", "poison", "c"].map((key) => asked(key));
  await settle();
  await begun[0]?.fail(refused(code));
  for (let nth = 1; nth < 4; nth++) {
    const one = begun[nth];
    expect(one?.keys).toHaveLength(1);
    if (one?.keys[0] === "poison") await one.fail(refused(code));
    else await one?.answer();
  }
  expect(await Promise.allSettled(answers)).toMatchObject([{ value: "A" }, { reason: { code } }, { value: "C" }]);
  expect(begun).toHaveLength(4);
});

test.each(["57P01", "ECONNREFUSED", "55P03"])(
  "a database that is away (%s) is told to all, and not asked again",
  async (code) => {
    const { begun, asked, sent } = scene();
    const answers = ["a", "b"].map((key) => asked(key));
    await settle();
    await begun[0]?.fail(refused(code));
    expect(await Promise.allSettled(answers)).toMatchObject([{ reason: { code } }, { reason: { code } }]);
    void asked("c");
    await settle();
    expect(sent()).toEqual(["a b", "c"]);
  },
);

test("no more wait than are bounded; the next is told to try another node", async () => {
  const { asked, busy } = scene();
  await busy();
  for (let n = 0; n < WAITING_MAX; n++) void asked(`q${n}`);
  const error = await asked("one more").catch((why: unknown) => why);
  expect(error instanceof ProblemError && error.problem.code).toBe("overloaded");
  // An equal one takes no room.
  let refused = false;
  asked("q0").catch(() => {
    refused = true;
  });
  await settle();
  expect(refused).toBe(false);
});
