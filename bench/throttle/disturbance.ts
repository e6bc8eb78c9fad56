/** What the bench and its load tell each other. */

/** Sent by the parent: from now on so many loops of each kind. */
export interface Disturbance {
  /** Aggregations over half a million rows, one after the other. */
  readonly aggregations: number;
  /** Aggregations over 20,000 rows: many short ones. */
  readonly smallAggregations: number;
  /** Updates of 2,000 rows, one after the other: WAL and dirty pages. */
  readonly updates: number;
}

export const CALM: Disturbance = { aggregations: 0, smallAggregations: 0, updates: 0 };

/** What one interactive request took, from the time at which it was due. */
export interface Request {
  readonly kind: "read" | "update";
  /** When it was due, in ms since 1970. */
  readonly atMs: number;
  readonly tookMs: number;
}
