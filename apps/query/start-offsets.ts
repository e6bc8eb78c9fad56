/** Where the tail begins in every partition. */
import type { ConnectedLog, Surroundings } from "#lib/connect.ts";
import { LogError } from "#lib/kafka/ports.ts";
import type { TailStart } from "./tail.ts";

const RETRY_MS = 500;

/**
 * At the checkpoints that are known, else at the log's start. Waits for the log: a topic that was just created has leaders
 * that do not know it yet, and a node that ended for that would end at many a first start.
 * @throws LogError that no wait can mend; `signal`'s AbortError when it aborts first
 */
export async function startOffsets(
  { admin, identity }: Pick<ConnectedLog, "admin" | "identity">,
  known: ReadonlyMap<number, bigint>,
  { log, clock }: Pick<Surroundings, "log" | "clock">,
  signal: AbortSignal,
): Promise<ReadonlyMap<number, TailStart>> {
  for (;;) {
    try {
      const offsets = await admin.offsets(identity.topic);
      return new Map(
        [...offsets]
          .filter(([partition]) => partition < identity.partitions)
          .map(([partition, { low }]) => [partition, { start: known.get(partition) ?? low, logStart: low }]),
      );
    } catch (error) {
      if (!(error instanceof LogError) || error.kind === "fatal") throw error;
      log.info("offsets not read yet", { topic: identity.topic, error: error.message });
    }
    await clock.sleep(RETRY_MS, signal);
    signal.throwIfAborted();
  }
}
