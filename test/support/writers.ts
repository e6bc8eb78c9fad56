/** Writers of other builds: the same event in a schema with a field more, and with one less. */
import avro from "avsc";
import { fingerprintOf, WRITER_SCHEMA } from "#lib/codec.ts";
import type { Event } from "#lib/event.ts";

const parsed = JSON.parse(WRITER_SCHEMA) as { fields: { name: string }[] };
const withFields = (fields: readonly unknown[]): string => JSON.stringify({ ...parsed, fields });

export const NEWER_SCHEMA = withFields([...parsed.fields, { name: "source", type: ["null", "string"], default: null }]);
/** Without `data`, which has a default. */
export const OLDER_SCHEMA = withFields(parsed.fields.filter(({ name }) => name !== "data"));

/** A record's value as a build with this schema writes it. */
export function writeAs(schema: string, event: Event, more: Readonly<Record<string, unknown>> = {}): Buffer {
  const { occurredAtMs, receivedAtMs, ...names } = event;
  const type = avro.Type.forSchema(JSON.parse(schema), { wrapUnions: false });
  const body = type.toBuffer({ ...names, occurredAt: occurredAtMs, receivedAt: receivedAtMs, ...more });
  return Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.from(fingerprintOf(schema), "hex"), body]);
}
