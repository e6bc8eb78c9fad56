/** The yardstick for single events: a Fastify route that parses the same body and answers at once. A process of its own. */
import { fastify } from "fastify";

const server = fastify({ logger: false });
const answer = { id: "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000", cursor: "004000g000000000000000c0" };
server.get("/readyz", () => ({ ready: true, missing: [] }));
server.post("/api/v1/events", (_request, reply) => reply.code(201).send(answer));
await server.listen({ host: "127.0.0.1", port: Number(process.env["PORT"]) });
