import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { eventFault } from "#lib/valid.ts";
import { type Accepted, accept, acceptLine, PROBLEMS_LISTED_MAX } from "../../../apps/ingest/accept.ts";
import { BAD_BODIES, bodyOf, HOSTILE_EVENTS } from "../../support/corpus.ts";

const NOW = Date.UTC(2026, 0, 31, 8);
const bytes = (text: string) => new TextEncoder().encode(text);

function stamp() {
  let ids = 0;
  return { receivedAtMs: NOW, newId: () => `new-${ids++}` };
}

const send = (body: string | object) => accept(bytes(typeof body === "string" ? body : JSON.stringify(body)), stamp());

function eventsOf(accepted: Accepted) {
  if (!accepted.ok) throw new Error(accepted.problem.detail);
  return accepted.events;
}

function problemOf(accepted: Accepted) {
  if (accepted.ok) throw new Error("nothing was refused");
  return accepted.problem;
}

describe("what is refused", () => {
  test.each(BAD_BODIES)("$name: $code", ({ body, status, code }) => {
    const problem = problemOf(accept(body, stamp()));
    expect(problem).toMatchObject({ status, code });
    expect(problem.detail.length).toBeGreaterThan(20);
    expect(JSON.stringify(problem).length).toBeLessThan(4_000);
    expect(JSON.stringify(problem).isWellFormed()).toBe(true);
  });

  test("the line form refuses the same events for the same reason", () => {
    const arrays = new Set(["an empty array", "an array in the array", "null in the array", "5,001 events"]);
    for (const { name, body, code } of BAD_BODIES.filter((bad) => !arrays.has(bad.name))) {
      const line = acceptLine(body, stamp());
      expect(line.ok ? name : line.faults[0]?.code).toBe(code);
    }
    expect(acceptLine(bytes('[{"clientId":"a","type":"b"}]'), stamp()).ok).toBe(false);
  });

  test("one bad event refuses the array, and every bad one is listed by index", () => {
    const good = { clientId: "a", type: "b" };
    const problem = problemOf(send([good, { clientId: "a" }, good, { ...good, occurredAt: "now", x: 1 }]));
    expect(problem).toMatchObject({ status: 400, code: "invalid-event", field: "/1/type", problemsTotal: 3 });
    expect(problem["problems"]).toEqual([
      { index: 1, code: "invalid-event", field: "/type", detail: "type is missing; every event needs one" },
      { index: 3, code: "invalid-event", field: "/x", detail: expect.stringContaining('"x" is not a field') },
      {
        index: 3,
        code: "invalid-event",
        field: "/occurredAt",
        detail: expect.stringContaining('"now" is not an RFC 3339'),
      },
    ]);
    expect(problem.detail).toMatch(
      /^3 faults in 2 of 4 events, and nothing was stored; the first: event 1: type is missing/,
    );
  });

  test("an only fault gives the problem its code", () => {
    const body = '[{"clientId":"a","type":"b"},{"clientId":"a","type":"b","data":[{"n":1e400}]}]';
    expect(problemOf(send(body))).toMatchObject({ code: "inexact-number", field: "/1/data/0/n", problemsTotal: 1 });
    expect(problemOf(send({ clientId: "a" }))).toMatchObject({
      code: "invalid-event",
      field: "/type",
      problemsTotal: 1,
    });
  });

  test("hazards in some events do not hide the others", () => {
    const deep = `{"clientId":"a","type":"b","data":${"[".repeat(100)}${"]".repeat(100)}}`;
    const problem = problemOf(send(`[${deep},{"clientId":"a"},${deep},{"clientId":"a","type":"b","__proto__":1}]`));
    const listed = problem["problems"] as { index: number; code: string }[];
    expect(listed.map(({ index, code }) => [index, code])).toEqual([
      [0, "too-deep"],
      [1, "invalid-event"],
      [2, "too-deep"],
      [3, "forbidden-key"],
    ]);
  });

  test("the list of faults is bounded, the count is not", () => {
    const problem = problemOf(send(Array(5_000).fill({})));
    expect(problem["problems"]).toHaveLength(PROBLEMS_LISTED_MAX);
    expect(problem["problemsTotal"]).toBe(10_000);
    const unknown = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`x${i}`, 1]));
    expect(JSON.stringify(problemOf(send(unknown))).length).toBeLessThan(5_000);
  });

  test("a server field is told apart from an unknown one", () => {
    expect(problemOf(send({ clientId: "a", type: "b", cursor: "x" })).detail).toContain("set by the server");
  });

  test("nothing of data is shown", () => {
    const problem = problemOf(send('{"clientId":"a","type":"b","data":{"password":"secret","x":"\\u0000"}}'));
    expect(JSON.stringify(problem)).not.toContain("secret");
  });
});

describe("what is accepted", () => {
  test.each(HOSTILE_EVENTS)("$name", (hostile) => {
    const { clientId, type, id, canonical } = hostile;
    const event = { clientId, type, id, occurredAtMs: NOW, receivedAtMs: NOW, data: canonical };
    expect(send(bodyOf(hostile))).toEqual({ ok: true, events: [event], single: true });
    expect(acceptLine(bytes(bodyOf(hostile)), stamp())).toEqual({ ok: true, event });
  });

  test("an array keeps its order, and ids are given where none was sent", () => {
    const event = (id?: string) => ({ clientId: "a", type: "b", id });
    const accepted = send([event(), event("mine"), event(), event("mine")]);
    expect(accepted).toMatchObject({ ok: true, single: false });
    expect(eventsOf(accepted).map(({ id }) => id)).toEqual(["new-0", "mine", "new-1", "mine"]);
  });

  test("an array of one is an array", () => {
    expect(send([{ clientId: "a", type: "b" }])).toMatchObject({ ok: true, single: false });
  });

  test("5,000 events are one array", () => {
    expect(eventsOf(send(Array(5_000).fill({ clientId: "a", type: "b", data: 1 })))).toHaveLength(5_000);
  });

  test("occurredAt is cut to ms, and is the time of receipt where none was sent", () => {
    const [sent, absent] = eventsOf(
      send([
        { clientId: "a", type: "b", occurredAt: "2026-01-31T09:00:00.1239+01:00" },
        { clientId: "a", type: "b" },
      ]),
    );
    expect(sent?.occurredAtMs).toBe(NOW + 123);
    expect(absent?.occurredAtMs).toBe(NOW);
  });

  test("whatever is accepted is valid, and accepted again as the same", () => {
    const text = (bytesMax: number) => fc.string({ unit: "binary", minLength: 1, maxLength: bytesMax / 4 });
    const sent = fc.record(
      { clientId: text(255), type: text(255), id: text(128), data: fc.jsonValue({ stringUnit: "binary" }) },
      { requiredKeys: ["clientId", "type"] },
    );
    fc.assert(
      fc.property(sent, (body) => {
        const accepted = send(body);
        if (!accepted.ok) {
          expect(JSON.stringify(body)).toMatch(/\\u0000|\\ud|__proto__/);
          return;
        }
        const [event] = accepted.events;
        if (event === undefined) throw new Error("no event");
        expect(eventFault(event)).toBeNull();
        expect(event).toMatchObject({ clientId: body.clientId, type: body.type });
        const again = bodyOf({ ...event, name: "", canonical: null });
        expect(eventsOf(send(again))).toEqual([event]);
      }),
      { numRuns: 1_000 },
    );
  });

  test("any bytes are answered", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (body) => {
        expect(accept(body, stamp()).ok).toBe(false);
      }),
    );
  });
});
