/** What a client may say on its WebSocket, and how often. Pure. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";

const strict = { additionalProperties: false };
const clientId = Type.String();
const Authenticate = Type.Object({ op: Type.Literal("authenticate"), token: Type.String() }, strict);
const Subscribe = Type.Object(
  {
    op: Type.Literal("subscribe"),
    clientId,
    after: Type.Optional(Type.String()),
    type: Type.Optional(Type.Array(Type.String(), { maxItems: 100 })),
  },
  strict,
);
const Unsubscribe = Type.Object({ op: Type.Literal("unsubscribe"), clientId }, strict);
const messages = Compile(Type.Union([Authenticate, Subscribe, Unsubscribe]));

export type Message = Static<typeof Authenticate> | Static<typeof Subscribe> | Static<typeof Unsubscribe>;

/** The forms, for a person whose message has none of them. */
export const FORMS =
  '{"op":"authenticate","token"}, {"op":"subscribe","clientId","after","type":[…]} (after and type may be left out) or ' +
  '{"op":"unsubscribe","clientId"}';

/** Null: it is none, or not text. */
export function parseMessage(data: Buffer, isBinary: boolean): Message | null {
  if (isBinary) return null;
  try {
    const message: unknown = JSON.parse(data.toString("utf8"));
    return messages.Check(message) ? message : null;
  } catch {
    return null;
  }
}

/** All subscriptions of a connection at once, then a change now and then. */
const BURST = 1_000;
const PER_MINUTE = 100;

/** How many messages a connection may still send. */
export class Allowance {
  #left = BURST;
  #atMs: number;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** One message came. @returns false: it is one too many */
  take(nowMs: number): boolean {
    this.#left = Math.min(BURST, this.#left + ((nowMs - this.#atMs) * PER_MINUTE) / 60_000);
    this.#atMs = nowMs;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
