/**
 * The group's verbs → lanes. Assigned: the checkpoint is read and proved to belong to this log, then the lane starts there.
 * Revoked or lost: the lane closes, since the checkpoint refuses whoever is late. The broker's offsets are never asked.
 */
import type { Clock } from "#lib/clock.ts";
import { type Checkpoint, isBroken, NotBegun, prove } from "#lib/continuity.ts";
import type { LogIdentity } from "#lib/control.ts";
import { type GroupHandlers, type LogAdmin, LogError, type PartitionReader } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import { readCheckpoints } from "#lib/postgres/checkpoints.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import { classify } from "#lib/postgres/sqlstate.ts";
import { beginCheckpoints, markCheckpoints } from "./checkpoint.ts";
import { Circuit } from "./circuit.ts";
import type { Lanes } from "./lanes.ts";

export interface AssignParts {
  readonly identity: LogIdentity;
  /** Whether partitions without a checkpoint begin at the log's start; otherwise the log before is to be saved first. */
  readonly begins: boolean;
  readonly pool: Pool;
  readonly admin: LogAdmin;
  /** One an assignment: a reader does one fetch at a time, and an assignment may be superseded in the middle of one. */
  readonly openReader: () => Promise<PartitionReader>;
  readonly lanes: Lanes;
  readonly clock: Clock;
  readonly log: Log;
  /** Called with the checkpoints found at each assignment. */
  readonly started: (nextOffsets: ReadonlyMap<number, bigint>) => void;
}

/** The handlers that the group reader calls, and what else an assignment is asked for. */
export interface Assignments extends GroupHandlers {
  /** Null while this sink has its partitions and knows where they start. `why`: what it cannot learn that from. */
  unassigned(): { readonly sinceMs: number; readonly why: string | null } | null;
  /** Their checkpoints, begun where they are missing, proved and marked. One attempt. @throws what store or log gives */
  starts(partitions: readonly number[]): Promise<ReadonlyMap<number, bigint>>;
}

/** One set for the whole life of a sink: every assignment passes through it. */
export function assignments(parts: AssignParts): Assignments {
  const { lanes, log, clock } = parts;
  let unassigned: { sinceMs: number; why: string | null } | null = { sinceMs: clock.now(), why: null };
  return {
    unassigned: () => unassigned,
    starts: (partitions) => readStarts(parts, partitions),
    onAssigned: async (partitions, signal) => {
      const waiting = { sinceMs: unassigned?.sinceMs ?? clock.now(), why: null as string | null };
      unassigned = waiting;
      lanes.assign(partitions);
      const starts = await findStarts(parts, partitions, signal, (why) => {
        waiting.why = why;
      });
      if (signal.aborted) return new Map();
      for (const [partition, nextOffset] of starts) lanes.lane(partition)?.start(nextOffset);
      unassigned = null;
      parts.started(starts);
      log.info("partitions assigned", { partitions: partitions.join(",") });
      return starts;
    },
    onRevoked: (partitions) => {
      unassigned = { sinceMs: unassigned?.sinceMs ?? clock.now(), why: null };
      lanes.revoke(partitions);
      log.info("partitions revoked", { partitions: partitions.join(",") });
    },
    onBatch: (fetched) => lanes.push(fetched),
  };
}

/** Waits for store and log as long as it takes. @throws OffsetOutOfRange, ContinuityBroken, NotBegun */
async function findStarts(
  parts: AssignParts,
  partitions: readonly number[],
  signal: AbortSignal,
  told: (why: string) => void,
): Promise<ReadonlyMap<number, bigint>> {
  const circuit = new Circuit();
  while (!signal.aborted) {
    try {
      return await readStarts(parts, partitions);
    } catch (error) {
      if (isBroken(error)) throw error;
      const message = (error as Error).message;
      const errorClass = error instanceof LogError ? "down" : classify(error);
      const waitMs = circuit.failed(errorClass, message, 0, parts.clock);
      told(`checkpoints not read: ${errorClass}: ${message}`);
      parts.log.warn("checkpoints not read", { errorClass, error: message, waitMs });
      await parts.clock.sleep(waitMs, signal);
    }
  }
  return new Map();
}

async function readStarts(parts: AssignParts, partitions: readonly number[]): Promise<ReadonlyMap<number, bigint>> {
  const checkpoints = await checkpointsOf(parts, partitions);
  await prove({ ...parts, topic: parts.identity.topic }, checkpoints);
  // Whatever is saved again from here on is new again, and must not be trimmed as what was saved before: see retention.ts.
  await markCheckpoints(parts.pool, parts.identity.epoch, partitions, parts.clock.now());
  return new Map([...checkpoints].map(([partition, { nextOffset }]) => [partition, nextOffset]));
}

/** The checkpoints, begun at the log's start where there is none yet. */
async function checkpointsOf(
  { pool, identity, begins, admin, log }: AssignParts,
  partitions: readonly number[],
): Promise<Map<number, Checkpoint>> {
  const { epoch, topic } = identity;
  const found = await readCheckpoints(pool, epoch, partitions);
  const missing = partitions.filter((partition) => !found.has(partition));
  if (missing.length === 0) return found;
  if (!begins) throw new NotBegun(topic, missing);
  const ranges = await admin.offsets(topic);
  const starts = new Map(missing.map((partition) => [partition, ranges.get(partition)?.low ?? 0n]));
  for (const [partition, low] of starts)
    if (low > 0n)
      log.warn("a new checkpoint begins above zero: what lay below is no longer in the log", { partition, low });
  await beginCheckpoints(pool, epoch, starts);
  return readCheckpoints(pool, epoch, partitions);
}
