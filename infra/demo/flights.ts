/** The demo's input: 20,000 real domestic flights of early 2001, as events. Pure but for reading the file. */
import { readFileSync } from "node:fs";

/** One record of the file. `date` is local time without a zone, as `2001/01/14 21:55`. */
export interface Flight {
  readonly date: string;
  readonly delay: number;
  readonly distance: number;
  readonly origin: string;
  readonly destination: string;
}

/** An event as it is sent. */
export interface Departure {
  readonly clientId: string;
  readonly type: "flight.departed";
  /** `<run>-<row>`: the same in every attempt to send it. */
  readonly id: string;
  readonly occurredAt: string;
  readonly data: Omit<Flight, "date" | "origin">;
}

const FILE = new URL("../../node_modules/vega-datasets/data/flights-20k.json", import.meta.url);

/** In the file's order, which is that of their departure. @throws Error when npm has not installed the data set */
export function readFlights(): Flight[] {
  try {
    return JSON.parse(readFileSync(FILE, "utf8")) as Flight[];
  } catch (cause) {
    throw new Error("the flights of vega-datasets cannot be read: run npm ci, with the development packages", {
      cause,
    });
  }
}

/**
 * The file does not say which zone its times are in: they are taken as UTC.
 * @param run tells this run's events from those of earlier ones
 */
export function departure({ date, origin, ...data }: Flight, row: number, run: string): Departure {
  const at = /^(\d{4})\/(\d\d)\/(\d\d) (\d\d:\d\d)$/.exec(date);
  if (!at) throw new Error(`flight ${row}: the date ${JSON.stringify(date)} is not written as YYYY/MM/DD hh:mm`);
  const [, year, month, day, time] = at;
  return {
    clientId: origin,
    type: "flight.departed",
    id: `${run}-${String(row).padStart(5, "0")}`,
    occurredAt: `${year}-${month}-${day}T${time}:00.000Z`,
    data,
  };
}
