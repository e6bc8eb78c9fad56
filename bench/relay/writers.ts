/**
 * What `emit` costs a writing transaction: the same business change without it, with it in the statement of the change, with it as a
 * statement of its own, and with one more statement that does nothing: that is what of it is the round trip. In turns. A process
 * of its own; prints one JSON line.
 */
import pg from "pg";
import { median } from "../../infra/figures.ts";

export interface WritersOrder {
  readonly databaseUrl: string;
  readonly connections: number;
  /** Turns of each kind; their order is turned round each time. */
  readonly rounds: number;
  readonly seconds: number;
}

const KINDS = ["without", "within", "own", "nothing"] as const;
export type Kind = (typeof KINDS)[number];

export interface WritersResult {
  /** Transactions a second, medians. */
  readonly rates: Readonly<Record<Kind, number>>;
  /** A transaction's time to that of one without, round by round. */
  readonly ratios: Readonly<Record<Kind, readonly number[]>>;
}

const ACCOUNTS = 10_000;
const INSERT = "INSERT INTO bench_order (account, amount) VALUES ($1, 1)";
const WITHIN = `WITH made AS (${INSERT} RETURNING id) SELECT spillway.emit($2, $3, $4::jsonb) FROM made`;
const FOURTH: Partial<Record<Kind, string>> = {
  own: "SELECT spillway.emit($1, $2, $3::jsonb)",
  nothing: "SELECT $1::text, $2::text, $3::jsonb",
};

const { databaseUrl, connections, rounds, seconds } = JSON.parse(process.argv[2] ?? "null") as WritersOrder;
const pool = new pg.Pool({ connectionString: databaseUrl, max: connections });
let made = 0;

async function change(client: pg.PoolClient, kind: Kind): Promise<void> {
  const account = (made++ * 7_919) % ACCOUNTS;
  const data = JSON.stringify({ account, amount: 1, currency: "EUR", note: "left at the door, please ring twice" });
  const event = [`account-${account}`, "order.placed", data];
  await client.query("BEGIN");
  await client.query({ name: "read", text: "SELECT balance FROM bench_account WHERE id = $1", values: [account] });
  await client.query({
    name: "update",
    text: "UPDATE bench_account SET balance = balance - 1 WHERE id = $1",
    values: [account],
  });
  if (kind === "within") await client.query({ name: kind, text: WITHIN, values: [account, ...event] });
  else await client.query({ name: "insert", text: INSERT, values: [account] });
  const text = FOURTH[kind];
  if (text !== undefined) await client.query({ name: kind, text, values: event });
  await client.query("COMMIT");
}

/** @returns transactions a second */
async function turn(kind: Kind): Promise<number> {
  const begin = performance.now();
  const end = begin + seconds * 1_000;
  let transactions = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const client = await pool.connect();
      for (; performance.now() < end; transactions++) await change(client, kind);
      client.release();
    }),
  );
  return transactions / ((performance.now() - begin) / 1_000);
}

function ofEach<T>(value: (kind: Kind) => T): Record<Kind, T> {
  return Object.fromEntries(KINDS.map((kind) => [kind, value(kind)])) as Record<Kind, T>;
}

await pool.query(
  `CREATE TABLE IF NOT EXISTS bench_account (id int PRIMARY KEY, balance int NOT NULL) WITH (fillfactor = 70)`,
);
await pool.query(
  `INSERT INTO bench_account SELECT n, 0 FROM generate_series(0, ${ACCOUNTS - 1}) AS n ON CONFLICT DO NOTHING`,
);
await pool.query(`CREATE TABLE IF NOT EXISTS bench_order
  (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int NOT NULL, amount int NOT NULL)`);
const rates = ofEach((): number[] => []);
for (const kind of KINDS) await turn(kind);
for (let round = 0; round < rounds; round++)
  for (const kind of round % 2 === 1 ? KINDS.toReversed() : KINDS) rates[kind].push(await turn(kind));
await pool.end();
const printed: WritersResult = {
  rates: ofEach((kind) => median(rates[kind])),
  ratios: ofEach((kind) => rates[kind].map((rate, round) => (rates.without[round] ?? Number.NaN) / rate)),
};
process.stdout.write(`${JSON.stringify(printed)}\n`);
