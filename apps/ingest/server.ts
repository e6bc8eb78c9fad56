/** Routes ↔ status codes of ingest; the only file here that knows HTTP. */
import type { IncomingMessage } from "node:http";
import type { FastifyReply } from "fastify";
import { Type } from "typebox";
import type { Access } from "#lib/access.ts";
import type { Clock } from "#lib/clock.ts";
import { encodeCursor, type Position } from "#lib/cursor.ts";
import { type Event, LIMITS } from "#lib/event.ts";
import { rawBody, type Server } from "#lib/http.ts";
import type { Metrics } from "#lib/metrics.ts";
import { NDJSON } from "#lib/ndjson.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import { accept, PROBLEMS_LISTED_MAX } from "./accept.ts";
import { retryAfterSeconds, Streams } from "./ndjson.ts";

const strict = { additionalProperties: false };

const NewEvent = Type.Object(
  {
    clientId: Type.String({
      minLength: 1,
      maxLength: LIMITS.clientIdBytesMax,
      description: "Whose event; 1 to 255 bytes",
    }),
    type: Type.String({ minLength: 1, maxLength: LIMITS.typeBytesMax, description: "1 to 255 bytes" }),
    id: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: LIMITS.idBytesMax,
        description:
          "Identity within the client; 1 to 128 bytes. The same id again is never a second event. Default: a UUIDv7",
      }),
    ),
    occurredAt: Type.Optional(
      Type.String({
        format: "date-time",
        description: "RFC 3339; kept to the millisecond. Default: the time of arrival",
      }),
    ),
    data: Type.Optional(Type.Unknown({ description: "Any JSON, at most 256 KiB and 64 levels deep" })),
  },
  strict,
);
const Acknowledged = Type.Object({ id: Type.String(), cursor: Type.String() });
/** Printed here, as text. */
const Answer = Type.Unsafe<string>(Type.Union([Acknowledged, Type.Object({ events: Type.Array(Acknowledged) })]));
const Told = Type.Object({
  accepted: Type.Integer({ description: "Lines whose event is durable" }),
  rejected: Type.Integer({
    description: "Lines that are no event of the contract, or of a client that the key does not open",
  }),
  problems: Type.Array(
    Type.Object({ line: Type.Integer(), code: Type.String(), field: Type.String(), detail: Type.String() }),
    { description: "The first 1,000 faults; lines count from 1" },
  ),
});
const ToldByLine = Type.Object({
  line: Type.Integer(),
  id: Type.Optional(Type.String()),
  cursor: Type.Optional(Type.String()),
  problem: Type.Optional(Type.Ref("Problem#")),
});
const StreamAnswer = Type.Unsafe<FastifyReply>({
  description:
    "To a stream, when it was read to its end. With Accept: application/x-ndjson one line for each line that is not blank, " +
    'in their order, while it is read; a last line {"problem"} without a number tells that the stream ended early.',
  content: { "application/json": { schema: Told }, [NDJSON]: { schema: ToldByLine } },
});

const SCHEMA = {
  tags: ["events"],
  summary: "Append one event, an array of 1 to 5,000, all or none, or a stream of any length",
  description:
    "201 means durable. A 503 says whether anything may be stored, and names the ids to send again with. " +
    "application/x-ndjson is a stream of events, one a line of up to 2 MiB: valid lines are kept, others are told by their " +
    "number, empty ones are passed over. It is read as fast as the log takes it, for as long as it goes on; 30 s without a " +
    "byte end it. A stream that ends early (503, 408) tells in `line` from which line on to send again, and in `lines` " +
    "and `ids` with which ids.",
  consumes: ["application/json", NDJSON],
  body: rawBody(Type.Union([NewEvent, Type.Array(NewEvent, { minItems: 1, maxItems: LIMITS.arrayEventsMax })])),
  response: { 200: StreamAnswer, 201: Answer },
  problems: [408],
} as const;

export interface IngestRoutes {
  /** @throws NotAcknowledged */
  publish(events: readonly Event[]): Promise<readonly Position[]>;
}

/** `POST /api/v1/events`. In a plugin, so that other routes of the server take no streams. */
export function registerIngest(server: Server, ingest: IngestRoutes, clock: Clock, metrics: Metrics): void {
  server.register((scope: Server, _options, done) => {
    registerEvents(scope, ingest, clock, metrics);
    done();
  });
}

function registerEvents(server: Server, ingest: IngestRoutes, clock: Clock, metrics: Metrics): void {
  const { bodies, log } = server.spillway;
  const streams = new Streams({ publish: (events) => ingest.publish(events), bodies, clock, log, metrics });
  server.addContentTypeParser(NDJSON, (_request, payload, done) => done(null, payload));
  server.addHook("preClose", (done) => {
    streams.stop();
    done();
  });
  const stamp = { receivedAtMs: 0, newId: clock.newId };
  server.post("/api/v1/events", { schema: SCHEMA }, async (request, reply) => {
    const body: Buffer | IncomingMessage = request.body;
    if (!Buffer.isBuffer(body)) {
      await streams.receive(request, body, reply);
      return reply;
    }
    stamp.receivedAtMs = clock.now();
    const accepted = accept(body, stamp);
    if (!accepted.ok) {
      metrics.ingestRefusedEvents.inc({ code: accepted.problem.code });
      throw new ProblemError(accepted.problem);
    }
    const { events, single } = accepted;
    demandAll(request.access, events, single);
    const positions = await publish(ingest, events);
    reply.code(201).type("application/json");
    return single ? receipt(events[0] as Event, positions[0] as Position) : receipts(events, positions);
  });
}

/**
 * Nothing of the clientId is said back: the answer is the same for every one that the key does not open.
 * @throws ProblemError forbidden, with each event that is
 */
function demandAll(access: Access, events: readonly Event[], single: boolean): void {
  if (events.every(({ clientId }) => access.allows("append", clientId))) return;
  const refused = [...events.entries()].flatMap(([index, { clientId }]) =>
    access.allows("append", clientId) ? [] : [index],
  );
  const [first] = refused;
  const what = single
    ? "this clientId"
    : `the clientId of ${refused.length} of ${events.length} events, the first at ${first}`;
  const detail = `This key may not append for ${what}: use the client's own key, or have it added.`;
  const field = single ? "/clientId" : `/${first}/clientId`;
  const each = { code: "forbidden", field: "/clientId", detail: "This key may not append for this clientId." };
  const problems = refused.slice(0, PROBLEMS_LISTED_MAX).map((index) => ({ index, ...each }));
  throw new ProblemError(problem("forbidden", detail, { field, problems, problemsTotal: refused.length }));
}

async function publish(ingest: IngestRoutes, events: readonly Event[]): Promise<readonly Position[]> {
  try {
    return await ingest.publish(events);
  } catch (error) {
    if (!(error instanceof NotAcknowledged)) throw error;
    throw unavailable(error, events);
  }
}

/** Ids and cursors are JSON-safe but for ids that a producer chose. */
const receipt = ({ id }: Event, position: Position): string =>
  `{"id":${JSON.stringify(id)},"cursor":"${encodeCursor(position)}"}`;

const receipts = (events: readonly Event[], positions: readonly Position[]): string =>
  `{"events":[${events.map((event, index) => receipt(event, positions[index] as Position)).join(",")}]}`;

function unavailable(error: NotAcknowledged, events: readonly Event[]): ProblemError {
  if (error.reason === "refused") throw error;
  const stored = error.stored === "no" ? "Nothing was stored" : "Some of it may be stored";
  const detail = `${error.message}. ${stored}: send it again with the ids given here, and it will be there once.`;
  const body = problem(error.reason, detail, { stored: error.stored, ids: events.map(({ id }) => id) });
  return new ProblemError(body, { cause: error, retryAfterSeconds: retryAfterSeconds(error) });
}
