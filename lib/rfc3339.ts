/** RFC 3339 date-times, read strictly: what Date.parse guesses or moves into the next month is refused. */
import { excerpt } from "./excerpt.ts";

export type ParsedTime = { readonly ms: number } | { readonly fault: string };

const FORM = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;

/** ms since 1970, finer digits cut off; or what is wrong. `T` and `Z` may be lower case; `-00:00` is UTC. */
export function parseTime(text: string): ParsedTime {
  const form = FORM.exec(text);
  if (form === null) return fault(text, "is not an RFC 3339 time");
  const part = (group: number) => Number(form[group] ?? 0);
  const [year, month, day, hour, minute, second] = [part(1), part(2), part(3), part(4), part(5), part(6)];
  const [offsetHour, offsetMinute] = [part(9), part(10)];
  if (second === 60)
    return fault(text, "is a leap second, which no database time can hold: use second 59 or the next 00");
  if (hour > 23 || minute > 59 || second > 59 || offsetHour > 23 || offsetMinute > 59)
    return fault(text, "has an hour, minute, second or offset that does not exist");
  const date = new Date(0);
  // Not Date.UTC, which takes the years 0 to 99 for 1900 to 1999.
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return fault(text, "is no day of the calendar");
  const milliseconds = Number((form[7] ?? "").slice(0, 3).padEnd(3, "0"));
  const offsetMinutes = (form[8] === "-" ? -1 : 1) * (offsetHour * 60 + offsetMinute);
  return { ms: date.getTime() + ((hour * 60 + minute - offsetMinutes) * 60 + second) * 1000 + milliseconds };
}

function fault(text: string, reason: string): ParsedTime {
  return { fault: `${excerpt(text)} ${reason}; send a time like "2026-01-31T08:00:00.000Z"` };
}
