/** What an operator asks of every role: does it live, can it do its job, how is it doing, what does it offer. */
import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import type { Metrics } from "./metrics.ts";

/** Whether a role can do its job. More members may say more. */
export interface Readiness {
  readonly ready: boolean;
  /** What is missing, each in a few words; empty when ready. */
  readonly missing: readonly string[];
  readonly [more: string]: unknown;
}

const ReadinessSchema = Type.Object({ ready: Type.Boolean(), missing: Type.Array(Type.String()) });
const tags = ["operator"];

/** @param ready must answer by itself within a second or so, also when what it asks is away */
export function addOperatorRoutes(
  server: FastifyInstance,
  { metrics, ready }: { metrics: Metrics; ready: () => Promise<Readiness> | Readiness },
): void {
  const open = { access: "open" } as const;
  const lives = { tags, summary: "The process lives", response: { 200: Type.Object({ alive: Type.Boolean() }) } };
  server.get("/healthz", { config: open, schema: lives }, () => ({ alive: true }));
  const able = {
    tags,
    summary: "Whether this role can do its job, and what is missing",
    response: { 200: ReadinessSchema, 503: ReadinessSchema },
  };
  server.get("/readyz", { config: open, schema: able }, async (_request, reply) => {
    const state = await readiness(ready);
    return reply.code(state.ready ? 200 : 503).send(state);
  });
  const numbers = { tags, summary: "Prometheus metrics", produces: ["text/plain"], response: { 200: Type.String() } };
  server.get("/metrics", { config: { access: "operate" }, schema: numbers }, async (_request, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  );
  server.get("/openapi.json", { schema: { hide: true } }, () => server.swagger());
}

/** A role that cannot even tell is not ready, and says why. */
async function readiness(ready: () => Promise<Readiness> | Readiness): Promise<Readiness> {
  try {
    return await ready();
  } catch (error) {
    return { ready: false, missing: [error instanceof Error ? error.message : String(error)] };
  }
}
