/** Which of the forms that a route answers in its caller likes best. */
import type { IncomingHttpHeaders } from "node:http";
import Negotiator from "negotiator";

/**
 * By the header `Accept`, with its weights and `*`.
 * @param types the usual one first: it is meant where the caller does not say, likes several as much, or none of them
 */
export function preferredType<const T extends string>(
  headers: IncomingHttpHeaders,
  types: readonly [usual: T, ...others: T[]],
): T {
  const { accept } = headers;
  if (accept === undefined || accept === types[0]) return types[0];
  return (new Negotiator({ headers }).mediaType([...types]) as T | undefined) ?? types[0];
}
