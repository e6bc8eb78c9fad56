/** A database that is away is left in peace: whoever needs it is refused, and a poll alone finds out that it is back. */
import { expect, test } from "vitest";
import { proxiedPostgres } from "../../../infra/proxy.ts";
import { until } from "../../support/until.ts";
import { bodyOf, Given, type PageAnswer, type Placed, page } from "./given.ts";

const CROWD = 300;
const CONNECTIONS_MAX = 4;
/** Each would be an attempt to connect. */
const ONE_BY_ONE = 60;
/** The poll rests as long at least before it tries to connect again. */
const POLL_MS_MIN = 375;

test.each(["refuse", "swallow"] as const)(
  "a crowd of pages whose database is away (%s) is refused without asking it",
  async (mode) => {
    await using given = await Given.create();
    const { proxy, url } = await proxiedPostgres(given.database.url);
    await using _proxy = proxy;
    await using node = await given.node({ DATABASE_URL: url });
    await node.ready();
    const placed = await given.append(...Array.from({ length: 20 }, () => given.event("away")));
    const [{ partition, offset }, last] = [placed[10] as Placed, placed.at(-1) as Placed];
    await given.save(partition, offset);
    expect((await page(node, { clientId: "away" })).text).toBe(bodyOf(placed, last.cursor));
    const crowd = (): Promise<PageAnswer[]> =>
      Promise.all(
        Array.from({ length: CROWD }, (_, n) =>
          page(node, { clientId: "away", view: n % 2 ? "saved" : "merged", limit: String(1 + n) }),
        ),
      );
    const refused = (answers: readonly PageAnswer[]): void => {
      const told = new Set(answers.map(({ status, code }) => `${status} ${code}`));
      expect(told).toEqual(new Set(["503 store-unreachable"]));
    };

    /** One that was given up may be open for a moment beside the one that replaces it. */
    const withinBudget = (): Promise<unknown> =>
      until("no more connections than the node may have", () => proxy.counts.open <= CONNECTIONS_MAX);

    // At first nobody knows: some have asked, and wait.
    proxy.mode = mode;
    const first = crowd();
    await until("the first refusal", async () => {
      const { text } = await page(node, { clientId: "away", view: "saved" });
      return text.includes("The database does not answer");
    });
    refused(await first);
    await withinBudget();

    const [before, begunMs] = [proxy.counts.connections, performance.now()];
    refused(await crowd());
    for (let n = 0; n < ONE_BY_ONE; n++) refused([await page(node, { clientId: "away", limit: "1" })]);
    const polls = (performance.now() - begunMs) / POLL_MS_MIN;
    expect(proxy.counts.connections - before).toBeLessThanOrEqual(Math.ceil(polls) + 1);
    await withinBudget();
    const unsaved = await Promise.all(
      Array.from({ length: CROWD }, () => page(node, { clientId: "away", view: "unsaved" })),
    );
    expect(new Set(unsaved.map(({ text }) => text))).toEqual(new Set([bodyOf(placed.slice(10), last.cursor)]));

    proxy.mode = "pass";
    await until("it is back", async () => (await page(node, { clientId: "away" })).status === 200);
    for (const { text } of await Promise.all(Array.from({ length: CROWD }, () => page(node, { clientId: "away" }))))
      expect(text).toBe(bodyOf(placed, last.cursor));
    await withinBudget();
  },
);
