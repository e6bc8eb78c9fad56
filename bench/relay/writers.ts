/**
 * What `emit` costs a writing transaction: the same business change with it and without it, in turns. A process of its own; prints
 * one JSON line.
 */
import pg from "pg";
import { median } from "../../infra/figures.ts";

export interface WritersOrder {
  readonly databaseUrl: string;
  readonly connections: number;
  /** Pairs of turns; who is first alternates. */
  readonly rounds: number;
  readonly seconds: number;
}

export interface WritersResult {
  /** Transactions a second, medians. */
  readonly without: number;
  readonly with: number;
  /** Time of a transaction with `emit` to that of one without, round by round. */
  readonly ratios: readonly number[];
}

const ACCOUNTS = 10_000;

const { databaseUrl, connections, rounds, seconds } = JSON.parse(process.argv[2] ?? "null") as WritersOrder;
const pool = new pg.Pool({ connectionString: databaseUrl, max: connections });
let made = 0;

async function change(client: pg.PoolClient, emits: boolean): Promise<void> {
  const account = (made++ * 7_919) % ACCOUNTS;
  await client.query("BEGIN");
  await client.query({ name: "read", text: "SELECT balance FROM bench_account WHERE id = $1", values: [account] });
  await client.query({
    name: "update",
    text: "UPDATE bench_account SET balance = balance - 1 WHERE id = $1",
    values: [account],
  });
  await client.query({
    name: "insert",
    text: "INSERT INTO bench_order (account, amount) VALUES ($1, 1)",
    values: [account],
  });
  if (emits) {
    const data = JSON.stringify({ account, amount: 1, currency: "EUR", note: "left at the door, please ring twice" });
    const values = [`account-${account}`, "order.placed", data];
    await client.query({ name: "emit", text: "SELECT spillway.emit($1, $2, $3::jsonb)", values });
  }
  await client.query("COMMIT");
}

/** @returns transactions a second */
async function turn(emits: boolean): Promise<number> {
  const begin = performance.now();
  const end = begin + seconds * 1_000;
  let transactions = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const client = await pool.connect();
      for (; performance.now() < end; transactions++) await change(client, emits);
      client.release();
    }),
  );
  return transactions / ((performance.now() - begin) / 1_000);
}

await pool.query(
  `CREATE TABLE IF NOT EXISTS bench_account (id int PRIMARY KEY, balance int NOT NULL) WITH (fillfactor = 70)`,
);
await pool.query(
  `INSERT INTO bench_account SELECT n, 0 FROM generate_series(0, ${ACCOUNTS - 1}) AS n ON CONFLICT DO NOTHING`,
);
await pool.query(`CREATE TABLE IF NOT EXISTS bench_order
  (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int NOT NULL, amount int NOT NULL)`);
const rates: { without: number; with: number }[] = [];
for (const emits of [false, true]) await turn(emits);
for (let round = 0; round < rounds; round++) {
  const first = round % 2 === 1;
  const [one, other] = [await turn(first), await turn(!first)];
  rates.push(first ? { with: one, without: other } : { without: one, with: other });
}
await pool.end();
const printed: WritersResult = {
  without: median(rates.map((rate) => rate.without)),
  with: median(rates.map((rate) => rate.with)),
  ratios: rates.map((rate) => rate.without / rate.with),
};
process.stdout.write(`${JSON.stringify(printed)}\n`);
