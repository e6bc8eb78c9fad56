/** What a value of the control topic says. */
import type { LogIdentity } from "#lib/control.ts";

/** @throws Error when it is none */
export function identityOf(epoch: number, value: unknown): LogIdentity {
  const partitions = member(value, "partitions");
  if (!Number.isInteger(epoch) || typeof partitions !== "number") throw new Error("this is no log's identity");
  return { epoch, topic: text(value, "topic"), partitions };
}

/** @throws Error when there is none of that name */
export function text(value: unknown, name: string): string {
  const found = member(value, name);
  if (typeof found !== "string") throw new Error(`it has no text "${name}"`);
  return found;
}

/** Undefined where there is none of that name. */
export const member = (value: unknown, name: string): unknown =>
  (value as Readonly<Record<string, unknown>> | undefined)?.[name];
