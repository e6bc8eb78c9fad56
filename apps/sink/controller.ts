/**
 * How large the next batch is, and how long to rest before it. Pure: samples in, decision out. Fixed values for now; what
 * the database can bear will be felt from the samples, behind this same seam.
 */
import type { BatchLimits } from "./batch.ts";

/** One successful batch. */
interface Sample {
  readonly rows: number;
  readonly bytes: number;
  /** The checkpoint's statement: a round trip and a lock. */
  readonly casMs: number;
  /** COPY and dead letters. */
  readonly rowsMs: number;
  readonly totalMs: number;
}

interface Decision extends BatchLimits {
  readonly restMs: number;
}

export interface Controller {
  decide(): Decision;
  observe(sample: Sample): void;
}

/**
 * 2,000 rows: three quarters of the way from 100 rows a batch to 5,000 in rows/s on PostgreSQL 18.4, at a fifth of the
 * time that other users may have to wait behind one transaction. 8 MiB bounds it where events are large.
 */
export const fixedController: Controller = {
  decide: () => ({ recordsMax: 2_000, bytesMax: 8 * 1024 * 1024, restMs: 0 }),
  observe: () => undefined,
};
