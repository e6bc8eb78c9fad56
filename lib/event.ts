/** The event: its fields, its limits, and the one place that prints it as JSON. */

/** One accepted event. All text is well-formed Unicode without NUL. */
export interface Event {
  readonly clientId: string;
  readonly id: string;
  readonly type: string;
  /** ms since 1970; the UTC year lies in 0001 to 9999 */
  readonly occurredAtMs: number;
  /** Stamped once, by ingest or relay; ms since 1970 */
  readonly receivedAtMs: number;
  /** Canonical JSON text, spliced into answers and never parsed; absent is null */
  readonly data: string | null;
}

/** Limits of the HTTP contract. Bytes are UTF-8. */
export const LIMITS = {
  clientIdBytesMax: 255,
  typeBytesMax: 255,
  idBytesMax: 128,
  dataBytesMax: 256 * 1024,
  dataDepthMax: 64,
  /** Keys in one `data`: a megabyte of distinct keys costs ten megabytes and 46 ms to parse. */
  dataKeysMax: 10_000,
  arrayEventsMax: 5_000,
  bodyBytesMax: 4 * 1024 * 1024,
} as const;

/** 0001-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z in ms: what RFC 3339 can write and PostgreSQL keeps. */
export const OCCURRED_AT_MS_MIN = -62_135_596_800_000;
export const OCCURRED_AT_MS_MAX = 253_402_300_799_999;

const DAY_MS = 86_400_000;
/** The day that was printed last: most times of a batch or page lie in the same one. */
let day = { number: Number.NaN, text: "" };
const TWO_DIGITS = Array.from({ length: 60 }, (_, n) => String(n).padStart(2, "0"));

/** `YYYY-MM-DDTHH:MM:SS.sssZ`: the one printed form of a time. 0.06 µs within a day, 0.5 µs otherwise. */
export function timeText(ms: number): string {
  const number = Math.floor(ms / DAY_MS);
  if (number !== day.number) day = { number, text: new Date(number * DAY_MS).toISOString().slice(0, -13) };
  const seconds = Math.floor((ms - number * DAY_MS) / 1_000);
  const minutes = Math.floor(seconds / 60);
  const rest = String(ms - number * DAY_MS - seconds * 1_000).padStart(3, "0");
  return `${day.text}${TWO_DIGITS[Math.floor(minutes / 60)]}:${TWO_DIGITS[minutes % 60]}:${TWO_DIGITS[seconds % 60]}.${rest}Z`;
}

/**
 * The event as every answer shows it, saved, unsaved or live: the same bytes, since this is the only printer.
 * @param cursor text without characters that JSON escapes
 */
export function eventJson(event: Event, cursor: string): string {
  const data = event.data === null ? "" : `,"data":${event.data}`;
  return (
    `{"id":${JSON.stringify(event.id)},"clientId":${JSON.stringify(event.clientId)},"type":${JSON.stringify(event.type)}` +
    `,"occurredAt":"${timeText(event.occurredAtMs)}","receivedAt":"${timeText(event.receivedAtMs)}"${data},"cursor":"${cursor}"}`
  );
}
