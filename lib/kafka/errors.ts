/** What an error of the client library means for the log. */
import { LogError, type LogErrorKind, OffsetOutOfRange, TopicMissing } from "./ports.ts";

/** A record batch that this process cannot decode: trying again cannot help, and passing over it would lose records. */
export class UnreadableBatch extends Error {
  /** kafkajs asks this before it retries. */
  readonly retriable = false;
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "UnreadableBatch";
  }
}

/** Names and protocol error types that no wait can mend. Everything else is a matter of time. */
const FATAL: ReadonlySet<string> = new Set([
  "AssertionError",
  "TypeError",
  "RangeError",
  "ReferenceError",
  "SyntaxError",
  "UnreadableBatch",
  "KafkaJSNotImplemented",
  "KafkaJSServerDoesNotSupportApiKey",
  "KafkaJSSASLAuthenticationError",
  "KafkaJSUnsupportedMagicByteInMessageSet",
  "TOPIC_AUTHORIZATION_FAILED",
  "GROUP_AUTHORIZATION_FAILED",
  "CLUSTER_AUTHORIZATION_FAILED",
  "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
  "SASL_AUTHENTICATION_FAILED",
  "UNSUPPORTED_SASL_MECHANISM",
  "UNSUPPORTED_VERSION",
  "UNSUPPORTED_COMPRESSION_TYPE",
  "INCONSISTENT_GROUP_PROTOCOL",
  "INVALID_GROUP_ID",
  "INVALID_SESSION_TIMEOUT",
  "INVALID_TOPIC_EXCEPTION",
  "INVALID_PARTITIONS",
  "INVALID_REPLICATION_FACTOR",
  "INVALID_CONFIG",
  "POLICY_VIOLATION",
]);

/** Answers to a produce request for what the record is: no wait and no right would change them. */
const UNFIT: ReadonlySet<string> = new Set([
  "MESSAGE_TOO_LARGE",
  "RECORD_LIST_TOO_LARGE",
  "INVALID_RECORD",
  "INVALID_TIMESTAMP",
]);

/** Answers to a produce request after which the broker has surely stored nothing of that partition. */
const REFUSED: ReadonlySet<string> = new Set([...UNFIT, "TOPIC_AUTHORIZATION_FAILED"]);

/**
 * Thrown in the library's own code: while a connection is lost it looks into metadata that is not there, as in
 * `metadata.topicMetadata` of the null that a failed request gave. The next attempt has metadata again.
 */
const LOOKED_INTO_NOTHING = /^TypeError: .*(of|as) '?(null|undefined).*\n\s+at .*[\\/]kafkajs[\\/]src[\\/]/;

/** Whether a repetition is bound to fail too. */
export function isFatal(error: unknown): boolean {
  return chain(error).some(
    ({ name, type, looksIntoNothing }) => !looksIntoNothing && (FATAL.has(name) || FATAL.has(type)),
  );
}

/** Whether the broker refused these records for what they are. */
export function isRefused(error: unknown): boolean {
  return chain(error).some(({ type }) => REFUSED.has(type));
}

/** Whether the broker refused one of these records, and will again. */
export function isRecordRefused(error: unknown): boolean {
  return chain(error).some(({ type }) => UNFIT.has(type));
}

/** What a group's coordinator answers while it is being chosen or has just started, as at the very first join. */
const NO_COORDINATOR: ReadonlySet<string> = new Set([
  "GROUP_LOAD_IN_PROGRESS",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "NOT_COORDINATOR_FOR_GROUP",
]);

/** Whether the group has nobody yet who could take members in. */
export function isWithoutCoordinator(error: unknown): boolean {
  return chain(error).some(({ type }) => NO_COORDINATOR.has(type));
}

/** The error a port throws: what was being done, what went wrong, and its kind. Errors of the ports stay as they are. */
export function toLogError(doing: string, error: unknown, kind?: LogErrorKind): LogError | OffsetOutOfRange {
  if (error instanceof LogError || error instanceof OffsetOutOfRange) return error;
  const message = `${doing}: ${error instanceof Error ? error.message : String(error)}`;
  if (kind === undefined && chain(error).some(({ type }) => type === "UNKNOWN_TOPIC_OR_PARTITION"))
    return new TopicMissing(message, { cause: error });
  return new LogError(kind ?? (isFatal(error) ? "fatal" : "retriable"), message, { cause: error });
}

interface Link {
  readonly name: string;
  readonly type: string;
  readonly looksIntoNothing: boolean;
}

/** The error, what caused it, and what it gathers. The depth is bounded because nothing says that causes are no circle. */
function chain(error: unknown, depth = 0): Link[] {
  if (typeof error !== "object" || error === null || depth > 8) return [];
  const { name, type, stack, cause, errors } = error as Record<"name" | "type" | "stack" | "cause" | "errors", unknown>;
  const gathered: unknown[] = Array.isArray(errors) ? errors : [];
  const looksIntoNothing = typeof stack === "string" && LOOKED_INTO_NOTHING.test(stack);
  return [
    { name: String(name), type: typeof type === "string" ? type : "", looksIntoNothing },
    ...chain(cause, depth + 1),
    ...gathered.flatMap((each) => chain(each, depth + 1)),
  ];
}
