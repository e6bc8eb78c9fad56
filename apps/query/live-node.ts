/** What all live connections of a node share. */
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { Room } from "#lib/room.ts";
import { Followers } from "./followers.ts";
import { Gate } from "./gate.ts";
import { Outflow } from "./outflow.ts";
import { Printer } from "./printer.ts";
import type { Reach } from "./reach.ts";
import type { Reader } from "./read.ts";
import type { Tail } from "./tail.ts";
import { Turns } from "./turns.ts";
import type { Verdicts } from "./verdicts.ts";

export interface LiveParts {
  readonly reader: Pick<Reader, "read">;
  readonly reach: Pick<Reach, "mark">;
  readonly tail: Tail;
  readonly verdicts: Verdicts;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly heartbeatMs: number;
}

/**
 * Page reads of all followers at a time. A thousand who come back at once catch up in turn; pages for others have the
 * database's connections next to them.
 */
const CATCH_UPS_MAX = 16;
/** Pages of which a reader has not taken all: 4 of the largest, 8 MiB, or 300 of 500 usual events. */
const PAGES_BYTES_MAX = 32 * 1024 * 1024;

export interface Live extends LiveParts {
  readonly followers: Followers;
  readonly turns: Turns;
  readonly outflow: Outflow;
  readonly catchUps: Gate;
  readonly pagesRoom: Room;
  readonly printer: Printer;
}

/** Puts it together; the tail and the verdicts tell it of news from now on. */
export function liveNode(parts: LiveParts): Live {
  const { tail, verdicts, clock, metrics } = parts;
  const turns = new Turns(clock);
  return {
    ...parts,
    followers: new Followers(tail, verdicts, metrics),
    turns,
    outflow: new Outflow(turns, metrics),
    catchUps: new Gate(CATCH_UPS_MAX),
    pagesRoom: new Room(PAGES_BYTES_MAX, clock),
    printer: new Printer(),
  };
}
