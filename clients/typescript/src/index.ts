export { SpillwayClient } from "./client.ts";
export { type EventProblem, type Problem, RefusedError, UnavailableError } from "./errors.ts";
export type {
  Abortable,
  Acknowledged,
  ClientOptions,
  Event,
  FollowOptions,
  Frame,
  NewEvent,
  Page,
  ReadOptions,
} from "./types.ts";
