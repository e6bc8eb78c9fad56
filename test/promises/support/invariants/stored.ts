/** 1 no loss, 2 nothing invented, 12 every offset below the checkpoint is exactly one thing. */
import type { Seen } from "../content.ts";
import { type Facts, type Identity, identity, type Sent } from "../facts.ts";
import type { SavedRow, Truth } from "../truth.ts";
import { nameOf, type Violation, violation } from "./violation.ts";

/** Every acknowledged id is in the topic, saved if it lies below the checkpoint, and shown by every final read. */
export function* lost(facts: Facts, truth: Truth): Generator<Violation> {
  const saved = new Map(truth.rows.map((row) => [identity(row), row]));
  for (const [key, sent] of facts.sent) {
    const fault = sent.okAt === null ? null : whereLost(facts.first.get(key), saved.get(key), truth);
    if (fault !== null) yield violation(1, `${nameOf(sent)} was acknowledged, and ${fault}`);
  }
  for (const { node, clientId, events } of truth.finals) {
    const shown = new Set(events.map(({ id }) => id));
    for (const sent of facts.sent.values())
      if (sent.okAt !== null && sent.clientId === clientId && !shown.has(sent.id))
        yield violation(1, `${nameOf(sent)} was acknowledged, and ${node} does not show it at the end`);
  }
}

function whereLost(
  first: { readonly partition: number; readonly offset: bigint } | undefined,
  row: SavedRow | undefined,
  { checkpoints, logStarts }: Truth,
): string | null {
  if (first === undefined && row === undefined) return "is neither in the topic nor saved";
  if (first !== undefined && row === undefined && first.offset < (checkpoints.get(first.partition) ?? 0n))
    return `lies at ${first.offset}, below the checkpoint, without a row`;
  if (first === undefined && row !== undefined && row.offset >= (logStarts.get(row.partition) ?? 0n))
    return "is saved, but gone from the topic";
  return null;
}

/** What is shown, saved or in the topic was sent before, and says what the first copy says. */
export function* invented(facts: Facts, shown: readonly Seen[], { rows }: Truth): Generator<Violation> {
  for (const one of shown) {
    const fault = faultOf(facts, one, one.at);
    if (fault !== null) yield violation(2, `${nameOf(one)} was shown ${fault}`);
  }
  for (const row of rows) {
    const fault = faultOf(facts, row, null);
    if (fault !== null) yield violation(2, `${nameOf(row)} was saved ${fault}`);
  }
  for (const event of facts.first.values()) {
    const fault = faultOf(facts, event, null);
    if (fault !== null) yield violation(2, `${nameOf(event)} is in the topic ${fault}`);
  }
}

/** @param at when it was there; null: at the end */
function faultOf(facts: Facts, one: Identity & { readonly content: string }, at: bigint | null): string | null {
  const sent: Sent | undefined = facts.sent.get(identity(one));
  const begun = sent?.contents.get(one.content);
  if (begun === undefined) return "as nobody sent it";
  if (at !== null && begun > at) return "before it was sent";
  const first = facts.first.get(identity(one));
  return first === undefined || first.content === one.content ? null : "with another content than its first copy has";
}

/** In the dumps each offset below S is exactly one of row, later copy and dead letter; none at or above it is saved. */
export function* unaccounted({ topic, rows, dead, checkpoints }: Truth): Generator<Violation> {
  const place = (one: { readonly partition: number; readonly offset: bigint }): string =>
    `${one.partition}/${one.offset}`;
  const saved = new Map(rows.map((row) => [place(row), row]));
  const rowOf = new Map(rows.map((row) => [identity(row), row.offset]));
  const aside = new Set(dead.map(place));
  for (const record of topic) {
    const where = place(record);
    const row = saved.get(where);
    const savedAt = record.event === null ? undefined : rowOf.get(identity(record.event));
    const isSavedCopy = savedAt !== undefined && savedAt < record.offset && row === undefined;
    const isBelow = record.offset < (checkpoints.get(record.partition) ?? 0n);
    // Above the checkpoint a copy of a saved event is merely not decided yet.
    const parts = Number(row !== undefined) + Number(isBelow && isSavedCopy) + Number(aside.has(where));
    const fault = placeFault(isBelow, parts);
    if (fault !== null) yield violation(12, `${where} is ${fault}`);
    if (row !== undefined && record.event !== null && identity(row) !== identity(record.event))
      yield violation(12, `${where} holds ${nameOf(record.event)}, and ${nameOf(row)} is saved there`);
  }
}

/** @param parts how many of row, later copy and dead letter it is */
function placeFault(isSaved: boolean, parts: number): string | null {
  if (isSaved && parts === 0) return "below the checkpoint, and nowhere";
  if (isSaved && parts > 1) return "below the checkpoint, and there twice";
  return !isSaved && parts > 0 ? "at or above the checkpoint, and saved" : null;
}
