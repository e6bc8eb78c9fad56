/** A JSON log line for a person at a terminal. */

const DULL = new Set(["level", "time", "role", "msg"]);

/** `12:00:01 sink info batch written partition=3 rows=500`; a line that is no log line stays as it is. */
export function readable(line: string): string {
  const entry = parse(line);
  if (!entry || typeof entry["msg"] !== "string") return line;
  const time = String(entry["time"]).slice(11, 19);
  const fields = Object.entries(entry).filter(([name]) => !DULL.has(name));
  const told = fields.map(([name, value]) => ` ${name}=${show(value)}`).join("");
  return `${time} ${entry["role"]} ${entry["level"]} ${entry["msg"]}${told}`;
}

function show(value: unknown): string {
  const failed = typeof value === "object" && value !== null && "message" in value;
  if (failed) return JSON.stringify(value.message);
  return typeof value === "string" && !/[\s"]/.test(value) ? value : JSON.stringify(value);
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
