/** Routes ↔ status codes of dead letters. */
import { rawBody, type Server } from "#lib/http.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import type { DeadLetters } from "./dead-letters.ts";
import {
  ListAnswer,
  ListParameters,
  letterText,
  listed,
  listText,
  outcomeText,
  PositionParameter,
  placeOf,
  RedriveAnswer,
  RedriveBody,
  ShowAnswer,
  selected,
} from "./forms.ts";

const tags = ["dead letters"];
const config = { access: "operate" } as const;

/**
 * `GET /api/v1/dead-letters`, `GET /api/v1/dead-letters/<position>`, `POST /api/v1/dead-letters/redrive`.
 * @param node its `deadLetters` throws ProblemError log-unreachable before the log was reached
 */
export function registerDeadLetters(server: Server, node: { readonly deadLetters: DeadLetters }): void {
  server.get(
    "/api/v1/dead-letters",
    {
      config,
      schema: {
        tags,
        summary: "Records that can never be rows, in the order of the log",
        description:
          "Shows what the key's clients have, and to a key for every client also those of which nobody can tell whose they " +
          "are. A page may hold fewer than the limit while hasMore is true: go on with after=next.",
        querystring: ListParameters,
        response: { 200: ListAnswer },
      },
    },
    async (request, reply) => {
      const found = await node.deadLetters.list(request.access, listed(request.query));
      return reply.type("application/json").send(listText(found));
    },
  );
  server.get(
    "/api/v1/dead-letters/:position",
    {
      config,
      schema: {
        tags,
        summary: "One of them with its bytes, and its event where it can be decoded by now",
        params: PositionParameter,
        problems: [404, 405],
        response: { 200: ShowAnswer },
      },
    },
    async (request, reply) => {
      // Another address, and no position of this one.
      if (request.params.position === "redrive") {
        void reply.header("allow", "POST");
        throw new ProblemError(problem("method-not-allowed", `Use POST, not ${request.method}.`));
      }
      const letter = await node.deadLetters.show(request.access, placeOf(request.params.position, "position"));
      return reply.type("application/json").send(letterText(letter));
    },
  );
  server.post(
    "/api/v1/dead-letters/redrive",
    {
      config,
      schema: {
        tags,
        summary: "Appends their events anew, under the same ids",
        description:
          "In the order of the log. An event is seen once, also when it is re-driven twice or was sent again meanwhile. What " +
          "cannot be decoded is refused with its reason. Without positions, what was re-driven before is passed over.",
        consumes: ["application/json"],
        body: rawBody(RedriveBody),
        response: { 200: RedriveAnswer },
      },
    },
    async (request, reply) => {
      const outcome = await node.deadLetters.redrive(request.access, selected(request.body));
      return reply.type("application/json").send(outcomeText(outcome));
    },
  );
}
