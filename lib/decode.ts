/**
 * A record → an event, or the reason why it is none. The sink and the query tail use this one reading, so that nothing is
 * shown and later gone.
 */
import { EventDecoder } from "#lib/codec.ts";
import type { Event } from "#lib/event.ts";
import type { LogRecord } from "#lib/kafka/ports.ts";
import { partitionOf } from "#lib/partition.ts";
import { eventFault } from "#lib/valid.ts";

/** What a record turned out to be. `reason` is a dead letter's: a stable word. */
export type Decoded =
  | { readonly ok: true; readonly record: LogRecord; readonly event: Event }
  | { readonly ok: false; readonly record: LogRecord; readonly reason: string; readonly detail: string };

/** What a value says by itself. An event that is not valid comes with its fault. `reason` is a stable word. */
export interface ValueRead {
  readonly event: Event | null;
  readonly fault: { readonly reason: string; readonly detail: string } | null;
}

/** Resolves a writer schema's JSON text by fingerprint; undefined when the control topic does not know it either. */
export type SchemaLookup = (fingerprint: string) => Promise<string | undefined>;

/** Decodes the records of one log. */
export class RecordDecoder {
  readonly #decoder = new EventDecoder();
  readonly #partitions: number;
  readonly #lookup: SchemaLookup;

  constructor(partitions: number, lookup: SchemaLookup) {
    this.#partitions = partitions;
    this.#lookup = lookup;
  }

  /**
   * In order, one answer a record. Asks the control topic only about fingerprints that are new here.
   * @throws LogError when such a look-up fails: nothing is judged by a schema that merely could not be fetched
   */
  async decode(partition: number, records: readonly LogRecord[]): Promise<Decoded[]> {
    const decoded: Decoded[] = [];
    // Asked once for these records: a writer publishes its schema before its first record, and all of these are there.
    const unknown = new Set<string>();
    for (const record of records)
      decoded.push(this.#now(partition, record) ?? (await this.#later(partition, record, unknown)));
    return decoded;
  }

  /**
   * What values say whatever their records' keys and partitions: of records that were set aside, which may say more by now.
   * @throws LogError as `decode`
   */
  async values(values: readonly (Buffer | null)[]): Promise<ValueRead[]> {
    const read: ValueRead[] = [];
    const unknown = new Set<string>();
    for (const value of values) {
      let result = this.#decoder.decode(value);
      let fault: ValueRead["fault"] = null;
      if (!result.ok && result.reason === "unknown-schema") {
        fault = await this.#learn(result.fingerprint, unknown);
        if (fault === null) result = this.#decoder.decode(value);
      }
      if (result.ok) read.push({ event: result.event, fault: faultOf(result.event) });
      else if (result.reason === "undecodable") read.push({ event: null, fault: result });
      else read.push({ event: null, fault });
    }
    return read;
  }

  /** undefined: the schema must be looked up first. */
  #now(partition: number, record: LogRecord): Decoded | undefined {
    const result = this.#decoder.decode(record.value);
    if (result.ok) return this.#judge(partition, record, result.event);
    if (result.reason === "unknown-schema") return undefined;
    return { ok: false, record, reason: result.reason, detail: result.detail };
  }

  async #later(partition: number, record: LogRecord, unknown: Set<string>): Promise<Decoded> {
    const fingerprint = record.value?.toString("hex", 2, 10) ?? "";
    const fault = await this.#learn(fingerprint, unknown);
    if (fault !== null) return dead(record, fault.reason, fault.detail);
    return this.#now(partition, record) ?? dead(record, "unknown-schema", `the schema ${fingerprint} did not resolve`);
  }

  /** Null: the schema is known from now on. */
  async #learn(fingerprint: string, unknown: Set<string>): Promise<ValueRead["fault"]> {
    const schema = unknown.has(fingerprint) ? undefined : await this.#lookup(fingerprint);
    if (schema === undefined) {
      unknown.add(fingerprint);
      const detail = `no writer has published a schema with the fingerprint ${fingerprint}`;
      return { reason: "unknown-schema", detail };
    }
    try {
      this.#decoder.learn(fingerprint, schema);
      return null;
    } catch (error) {
      const detail = `the writer's schema ${fingerprint} cannot be read as an event: ${error}`;
      return { reason: "unreadable-schema", detail };
    }
  }

  #judge(partition: number, record: LogRecord, event: Event): Decoded {
    // By bytes: as text, a key that is not UTF-8 could pass for another client's.
    if (!record.key?.equals(Buffer.from(event.clientId, "utf8")))
      return dead(record, "key-mismatch", "the record's key is not the event's clientId");
    if (partitionOf(record.key, this.#partitions) !== partition)
      return dead(
        record,
        "wrong-partition",
        `the clientId belongs to partition ${partitionOf(record.key, this.#partitions)}`,
      );
    const fault = faultOf(event);
    return fault === null ? { ok: true, record, event } : dead(record, fault.reason, fault.detail);
  }
}

function faultOf(event: Event): ValueRead["fault"] {
  const fault = eventFault(event);
  return fault === null ? null : { reason: fault.code, detail: `${fault.field}: ${fault.detail}` };
}

const dead = (record: LogRecord, reason: string, detail: string): Decoded => ({ ok: false, record, reason, detail });
