/** Logs are saved one after the other: which one is in hand, and when it is saved whole. */
import type { Clock } from "#lib/clock.ts";
import type { ConnectedLog } from "#lib/connect.ts";
import type { LogIdentity } from "#lib/control.ts";
import { succeeded } from "#lib/epochs.ts";
import type { Log } from "#lib/log.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import type { Task } from "#lib/run.ts";
import { beginSuccessor, begunEpochs } from "./checkpoint.ts";

/** The log to be saved now. */
export interface InHand {
  readonly identity: LogIdentity;
  /** Whether no log before it is left, in the database or in Kafka: then its checkpoints begin without another log's end. */
  readonly begins: boolean;
}

/**
 * The last log that has checkpoints, else the first one: those of a successor begin when the log before it is saved whole.
 * @throws what database and log give
 */
export async function inHand(
  pool: Pool,
  { control, admin }: Pick<ConnectedLog, "control" | "admin">,
  log: Log,
): Promise<InHand> {
  const begun = await begunEpochs(pool);
  const all = control.identities();
  const last = all.findLast(({ epoch }) => begun.includes(epoch));
  for (const identity of all) {
    if (identity === (last ?? all.at(-1))) return { identity, begins: true };
    const isThere = begun.includes(identity.epoch) || (await admin.facts(identity.topic)) !== undefined;
    if (isThere) return last ? { identity: last, begins: false } : { identity, begins: true };
    log.warn("a log is gone, and nothing of it is saved: it is passed over", { ...identity });
  }
  throw new Error("the control topic names no log");
}

/** How often a log that has been succeeded is asked whether it is saved whole. */
const LOOK_EVERY_MS = 200;

/** Begins the next log's checkpoints once this one was succeeded and is saved whole. */
export class SavedWhole implements Task {
  readonly name = "log saved whole";
  readonly #epoch: number;
  readonly #pool: Pool;
  readonly #connected: Pick<ConnectedLog, "control" | "reader">;
  readonly #surroundings: { readonly clock: Clock; readonly log: Log };
  readonly #done: () => void;

  /** @param done called once another log is in hand */
  constructor(
    epoch: number,
    pool: Pool,
    connected: Pick<ConnectedLog, "control" | "reader">,
    surroundings: { readonly clock: Clock; readonly log: Log },
    done: () => void,
  ) {
    this.#epoch = epoch;
    this.#pool = pool;
    this.#connected = connected;
    this.#surroundings = surroundings;
    this.#done = done;
  }

  /** Until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#surroundings;
    await succeeded(this.#connected.control, this.#epoch, signal);
    let isBegun = false;
    while (!signal.aborted) {
      try {
        isBegun ||= await this.#look();
        if (isBegun) this.#done();
      } catch (error) {
        log.warn("log not known to be saved whole", { epoch: this.#epoch, error: (error as Error).message });
      }
      await clock.sleep(LOOK_EVERY_MS, signal);
    }
  }

  async #look(): Promise<boolean> {
    const { control, reader } = this.#connected;
    const [own, next] = [this.#epoch, this.#epoch + 1].map((one) =>
      control.identities().find(({ epoch }) => epoch === one),
    );
    if (own === undefined || next === undefined) throw new Error(`epoch ${this.#epoch + 1} is not known`);
    const partitionsOf = ({ partitions }: LogIdentity): number[] => [...Array(partitions).keys()];
    // It is closed: what its leaders have now is all that there will ever be.
    const ends = await reader.leaderEnds(own.topic, partitionsOf(own));
    const ranges = await reader.offsets(next.topic, partitionsOf(next));
    const starts = new Map([...ranges].map(([partition, { low }]) => [partition, low]));
    return beginSuccessor(this.#pool, own.epoch, ends, starts);
  }
}
