/** Makes an API key: `npm run keys -- --name shop --client 1 --prefix team- --verbs append,read --file keys.json`. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type ClientPattern, type KeyRecord, parseKeys, tokenHash, VERBS, type Verb } from "#lib/access.ts";

const USAGE = `Makes an API key. The token is shown once; only its digest is kept.

  npm run keys -- --name NAME [--client ID]… [--prefix TEXT]… --verbs VERB[,VERB] [--file FILE]

  --name    whose key it is, for logs
  --client  a clientId that it opens; may be repeated
  --prefix  opens all clientIds that begin so; may be repeated; '' opens all
  --verbs   some of ${VERBS.join(", ")}
  --file    adds the record to this key file (made if missing); without it, the record is printed

Then start each role with SPILLWAY_KEYS=FILE, and call with the header "Authorization: Bearer TOKEN".`;

/** What the command line asked for; null for help. @throws Error naming what is wrong with it */
function recordOf(argv: readonly string[], token: string): { record: KeyRecord; file: string | undefined } | null {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      help: { type: "boolean", default: false },
      name: { type: "string", multiple: true, default: [] },
      client: { type: "string", multiple: true, default: [] },
      prefix: { type: "string", multiple: true, default: [] },
      verbs: { type: "string", default: "" },
      file: { type: "string" },
    },
  });
  if (values.help) return null;
  const [name, another] = values.name;
  if (!name) throw new Error("--name is missing");
  if (another !== undefined) throw new Error(`--name is given twice, "${name}" and "${another}": a key has one`);
  const verbs = values.verbs.split(",").map((verb) => verb.trim());
  const unknown = verbs.find((verb) => !VERBS.includes(verb as Verb));
  if (unknown !== undefined) throw new Error(`--verbs: "${unknown}" is none of ${VERBS.join(", ")}`);
  const clients: ClientPattern[] = [
    ...values.client.map((exact) => ({ exact })),
    ...values.prefix.map((prefix) => ({ prefix })),
  ];
  const record = { name, sha256: tokenHash(token), clients, verbs: verbs as Verb[] };
  parseKeys(JSON.stringify([record]));
  return { record, file: values.file };
}

/** Written beside and renamed, so that a role never reads half a file. */
function addTo(file: string, record: KeyRecord): void {
  try {
    const text = existsSync(file) ? readFileSync(file, "utf8") : "[]";
    parseKeys(text);
    const records = JSON.parse(text) as KeyRecord[];
    // Two of one name could not be told apart when one is to go.
    if (records.some(({ name }) => name === record.name))
      throw new Error(
        `it has a key named "${record.name}" already: choose another --name, or remove that record first`,
      );
    writeFileSync(`${file}.new`, `${JSON.stringify([...records, record], null, 2)}\n`, { mode: 0o600 });
    renameSync(`${file}.new`, file);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new Error(`--file ${file}: ${WORDS[code ?? ""] ?? message}`, { cause });
  }
}

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: "its folder does not exist",
  ENOTDIR: "its folder is none",
  EISDIR: "it is a folder",
  EACCES: "you may not read or write it",
};

try {
  const token = `spillway_${randomBytes(32).toString("base64url")}`;
  const wanted = recordOf(process.argv.slice(2), token);
  if (wanted === null) console.log(USAGE);
  else {
    const { record, file } = wanted;
    if (file) addTo(file, record);
    console.log(`Token, shown this once: ${token}`);
    console.log(file ? `Its record is in ${file}.` : `Its record: ${JSON.stringify(record)}`);
  }
} catch (error) {
  console.error(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
  process.exitCode = 1;
}
