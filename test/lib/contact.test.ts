import { expect, test } from "vitest";
import type { Asker } from "#lib/contact.ts";
import { LogError, OffsetOutOfRange } from "#lib/kafka/ports.ts";
import { fakeClock, settled } from "../support/fake-clock.ts";
import { contactWith, keptLog } from "../support/records.ts";

const away = new LogError("retriable", "connect ECONNREFUSED");

function scene() {
  const [clock, log] = [fakeClock(), keptLog()];
  const contact = contactWith(log, clock);
  const lines = (): string[] => log.lines.filter(({ level }) => level !== "debug").map(({ message }) => message);
  const since = (...askers: readonly Asker[]): number | undefined => contact.reasons(...askers)[0]?.sinceMs;
  return { clock, log, contact, lines, since };
}

test("an outage that everybody finds out, again and again, is a line with the addresses and one with its length", async () => {
  const { clock, log, contact, lines } = scene();
  for (let n = 0; n < 20; n++) {
    for (const asker of ["appends", "control topic", "unsaved tail"] as const) contact.failed(asker, away);
    contact.tell("events not appended", { n });
    await clock.advance(300);
  }
  contact.refused(3);
  contact.refused(4);
  for (const asker of ["unsaved tail", "appends"] as const) contact.answered(asker);
  expect(lines()).toEqual(["log lost"]);
  contact.answered("control topic");
  expect(log.lines.filter(({ level }) => level !== "debug")).toEqual([
    {
      level: "warn",
      message: "log lost",
      fields: { brokers: "kafka-1:9092,kafka-2:9092", asker: "appends", error: "connect ECONNREFUSED" },
    },
    {
      level: "warn",
      message: "log is back",
      fields: { brokers: "kafka-1:9092,kafka-2:9092", afterMs: 6_000, refusedEvents: 7 },
    },
  ]);
});

test("what may follow from a lost log is a warning of its own only where the log turns out not to be lost", async () => {
  const { clock, contact, lines } = scene();
  contact.tell("log not measured", {});
  await clock.advance(2_000);
  // The first to see it was not the one who tells of it, and it is over soon.
  contact.failed("control topic", away);
  contact.answered("control topic");
  await clock.advance(10_000);
  expect(lines()).toEqual(["log lost", "log is back"]);
  contact.tell("log not measured", {});
  await clock.advance(10_000);
  expect(lines().slice(2)).toEqual(["log not measured"]);
});

test("since when is the same at every look, whoever of the askers has no answer at the moment", async () => {
  const { clock, contact, since } = scene();
  const begunMs = clock.now();
  contact.failed("appends", away);
  await clock.advance(1_000);
  contact.failed("control topic", away);
  contact.answered("appends");
  await clock.advance(4_000);
  contact.failed("appends", away);
  expect([since("appends"), since("control topic"), since("appends", "control topic")]).toEqual(Array(3).fill(begunMs));
  expect(since("unsaved tail")).toBeUndefined();
  expect(contact.reasons("control topic")[0]?.what).toBe(
    "log: no answer from kafka-1:9092,kafka-2:9092 (control topic: connect ECONNREFUSED)",
  );
});

test("a question without an answer tells after its time that the log is lost, since it was asked; a late answer ends that", async () => {
  const { clock, contact, lines, since } = scene();
  const askedMs = clock.now();
  const { promise, resolve } = Promise.withResolvers<string>();
  const asked = contact.watch("control topic", 3_000, () => promise);
  await clock.advance(2_999);
  expect(lines()).toEqual([]);
  await clock.advance(1);
  expect([lines(), since("control topic")]).toEqual([["log lost"], askedMs]);
  resolve("answer");
  expect(await asked).toBe("answer");
  expect(lines()).toEqual(["log lost", "log is back"]);
});

test("a question that was asked in an outage has its whole time once the log is back, and what it fails with is no news", async () => {
  const { clock, contact, lines, since } = scene();
  const { promise, reject } = Promise.withResolvers<void>();
  contact.failed("control topic", away);
  await clock.advance(1_000);
  const slow = contact.watch("unsaved tail", 4_000, () => new Promise(() => undefined));
  slow.catch(() => undefined);
  const failing = contact.watch("appends", 4_000, () => promise);
  await clock.advance(3_500);
  contact.answered("control topic");
  const backMs = clock.now();
  await clock.advance(1_000);
  reject(away);
  await expect(failing).rejects.toBe(away);
  await clock.advance(2_999);
  expect(lines()).toEqual(["log lost", "log is back"]);
  await clock.advance(1);
  expect([lines().at(-1), since("unsaved tail"), since("appends")]).toEqual(["log lost", backMs, undefined]);
  await expect(contact.watch("appends", 4_000, () => Promise.reject(away))).rejects.toBe(away);
  expect(since("appends")).toBe(backMs);
});

test("an answer in time, a refusal for good and an offset out of range are no loss, and errors are passed on", async () => {
  const { clock, contact, lines } = scene();
  for (const error of [new LogError("fatal", "no right"), new OffsetOutOfRange("t", 0, 1n, { low: 2n, high: 3n })])
    await expect(contact.watch("appends", 1_000, () => Promise.reject(error))).rejects.toBe(error);
  await contact.watch("appends", 1_000, () => Promise.resolve());
  await clock.advance(5_000);
  expect(lines()).toEqual([]);
});

test("what fails because the process ends is no news", async () => {
  const { clock, contact, lines } = scene();
  const asked = contact.watch("read barrier", 1_000, () => new Promise(() => undefined));
  asked.catch(() => undefined);
  contact.end();
  contact.failed("appends", away);
  await clock.advance(2_000);
  await settled();
  expect(lines()).toEqual([]);
});
