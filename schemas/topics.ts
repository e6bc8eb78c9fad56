/** The topics' settings, and why. Their names and partition counts are settings of the roles (lib/config.ts). */

/**
 * The event log. It has no limit of its own in time or size: refusing new events cannot save old ones from one, so the
 * sink deletes records, and only those it has saved.
 * - `LogAppendTime`: with producer time, acknowledged records stamped two days back vanished within seconds under a
 *   time limit, and a stamp two hours ahead was refused.
 * - `segment.bytes` 128 MiB: deletion frees whole segments, so smaller ones give space back sooner.
 * - `max.message.bytes`: above 768 KiB a partition and send, which is what the producer keeps to.
 */
export const EVENT_TOPIC_CONFIG = {
  "cleanup.policy": "delete",
  "retention.ms": "-1",
  "retention.bytes": "-1",
  "message.timestamp.type": "LogAppendTime",
  "segment.bytes": String(128 * 1024 * 1024),
  "max.message.bytes": "1048588",
} as const;

/** Added to a log that another one succeeds: its leaders refuse every append from then on, whoever sends it. */
export const CLOSED_TOPIC_CONFIG = { "max.message.bytes": "0" } as const;

/** Whether a topic's settings say so. */
export const isClosed = (config: Readonly<Record<string, string>>): boolean =>
  Object.entries(CLOSED_TOPIC_CONFIG).every(([name, value]) => config[name] === value);

/**
 * The control topic: one partition, so that everybody reads the same order; compacted, so that it stays as small as its
 * keys. `segment.bytes` and `segment.ms` are small because only closed segments are compacted.
 */
export const CONTROL_TOPIC_CONFIG = {
  "cleanup.policy": "compact",
  "message.timestamp.type": "LogAppendTime",
  "segment.bytes": String(16 * 1024 * 1024),
  "segment.ms": String(60 * 60 * 1000),
  "min.cleanable.dirty.ratio": "0.1",
} as const;
