/** Counts a server's sessions again and again, faster than every 100 ms, and compares with what is allowed. */
import pg from "pg";
import { queryOnce } from "../../support/postgres.ts";
import { until } from "../../support/until.ts";

export interface SamplerOptions {
  /** How many sessions each may have at once; who is not named may have any number. */
  readonly budget: Readonly<Record<string, number>>;
  /** What sessions are told apart by. */
  readonly by: "application_name" | "usename";
  /**
   * A backend that was told to end, or whose client left it, lives on for a moment beside the one that replaces it. So one
   * counts from its second look on; or, behind a pooler that replaces what it closes at once, when it has lasted so long.
   */
  readonly lastingMs?: number;
}

/** On a session of its own, reconnecting where the server dies. */
export class Sampler {
  /** By name. */
  readonly most = new Map<string, number>();
  readonly excesses: string[] = [];
  samples = 0;
  readonly #url: string;
  readonly #options: SamplerOptions;
  readonly #done = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** When each was first seen. */
  #before = new Map<number, number>();

  constructor(url: string, options: SamplerOptions) {
    this.#url = url;
    this.#options = options;
  }

  start(): void {
    this.#running = this.#run();
    this.#running.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#done.abort();
    await this.#running;
  }

  /** Resolves once it has counted so often from now on. */
  async counts(more: number): Promise<void> {
    const target = this.samples + more;
    await until(`${more} samples`, () => this.samples >= target);
  }

  async #run(): Promise<void> {
    for (; !this.#ended(); ) {
      const client = new pg.Client({ connectionString: this.#url, application_name: "sampler" });
      client.on("error", () => undefined);
      try {
        await client.connect();
        for (; !this.#ended(); ) await this.#sample(client);
      } catch {
        // The server is dead or starts: nothing is to be counted.
        this.#before.clear();
        await until(
          "a server that answers, or the end",
          async () => this.#ended() || (await queryOnce(this.#url, "SELECT 1")).length > 0,
        );
      } finally {
        await client.end().catch(() => undefined);
      }
    }
  }

  #ended(): boolean {
    return this.#done.signal.aborted;
  }

  async #sample(client: pg.Client): Promise<void> {
    const { budget, by, lastingMs = 0 } = this.#options;
    const { rows } = await client.query<{ name: string; pid: number }>(
      `SELECT ${by} AS name, pid FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
    );
    this.samples++;
    const nowMs = performance.now();
    const firstMs = new Map(rows.map(({ pid }) => [pid, this.#before.get(pid) ?? nowMs]));
    const lasting = Map.groupBy(
      rows.filter(({ pid }) => this.#before.has(pid) && nowMs - (firstMs.get(pid) ?? nowMs) >= lastingMs),
      ({ name }) => name,
    );
    for (const [name, { length }] of lasting) {
      this.most.set(name, Math.max(this.most.get(name) ?? 0, length));
      if (length > (budget[name] ?? Number.POSITIVE_INFINITY)) this.excesses.push(`${name}: ${length}`);
    }
    this.#before = firstMs;
  }
}
