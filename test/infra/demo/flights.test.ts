import { expect, test } from "vitest";
import { departure, readFlights } from "../../../infra/demo/flights.ts";

test("all 20,000 flights of the file become events with ids of their own, in order of time", () => {
  const events = readFlights().map((flight, row) => departure(flight, row, "r"));
  expect(events).toHaveLength(20_000);
  expect(new Set(events.map(({ id }) => id)).size).toBe(20_000);
  const times = events.map(({ occurredAt }) => Date.parse(occurredAt));
  expect(times.every((time, at) => at === 0 || time >= (times[at - 1] ?? 0))).toBe(true);
});

test("a flight keeps everything that the file says of it", () => {
  const flight = { date: "2001/01/14 21:55", delay: -5, distance: 407, origin: "LAS", destination: "OAK" };
  expect(departure(flight, 7, "r")).toEqual({
    clientId: "LAS",
    type: "flight.departed",
    id: "r-00007",
    occurredAt: "2001-01-14T21:55:00.000Z",
    data: { delay: -5, distance: 407, destination: "OAK" },
  });
});

test("a date written otherwise is refused by its row", () => {
  const flight = { date: "14.01.2001", delay: 0, distance: 0, origin: "LAS", destination: "OAK" };
  expect(() => departure(flight, 3, "r")).toThrow(/flight 3: the date "14.01.2001"/);
});
