/** Routes ↔ status codes of query. */
import { Type } from "typebox";
import type { Server } from "#lib/http.ts";
import type { Metrics } from "#lib/metrics.ts";
import { registerDeadLetters } from "./dead-letters/routes.ts";
import { type LiveRouteParts, registerLive } from "./live-routes.ts";
import { registerPages } from "./pages.ts";
import type { Query } from "./query.ts";

const LagAnswer = Type.Object({
  lagRecords: Type.Integer(),
  partitions: Type.Array(
    Type.Object({
      partition: Type.Integer(),
      highWatermark: Type.Integer(),
      nextOffset: Type.Union([Type.Integer(), Type.Null()]),
      lagRecords: Type.Integer(),
    }),
  ),
});

export interface QueryParts extends LiveRouteParts {
  readonly query: Query;
  readonly metrics: Metrics;
}

/** `GET /api/v1/events`, `GET /api/v1/events/live`, `GET /api/v1/lag`, dead letters. Must be awaited before the server listens. */
export async function registerQuery(server: Server, parts: QueryParts): Promise<void> {
  registerPages(server, parts);
  await registerLive(server, parts);
  registerLag(server, parts);
  registerDeadLetters(server, parts.query);
}

function registerLag(server: Server, { query }: QueryParts): void {
  server.get(
    "/api/v1/lag",
    {
      config: { access: "operate" },
      schema: {
        tags: ["operator"],
        summary: "How many records of each partition are not saved yet",
        response: { 200: LagAnswer },
      },
    },
    () => {
      const partitions = query.lag();
      return { lagRecords: partitions.reduce((sum, { lagRecords }) => sum + lagRecords, 0), partitions };
    },
  );
}
