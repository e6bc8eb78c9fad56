/** Structured logs: one JSON object a line on stdout. Messages are facts in the past tense, with their figures as fields. */
import { type LevelWithSilent, pino } from "pino";

export type Fields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
}

/** @param role the process' name, on every line */
export function createLog(role: string, level: LevelWithSilent): Log {
  const out = pino({
    level,
    base: { role },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    // Causes are nested: joined, a text that names its cause itself would be told once for each.
    serializers: { error: pino.stdSerializers.errWithCause },
  });
  const at =
    (method: "debug" | "info" | "warn" | "error") =>
    (message: string, fields: Fields = {}): void =>
      out[method](printable(fields), message);
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** JSON has no bigint: offsets become decimal text. */
function printable(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, typeof v === "bigint" ? v.toString() : v]));
}
