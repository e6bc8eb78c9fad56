/** What `npm start` is asked for: its flags, its folder, and the settings that it passes on. What is wrong is refused before anything starts. */
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ConfigError, readKeys, readSettings } from "#lib/config.ts";
import { sinkSettings } from "../apps/sink/config.ts";
import { webSettings } from "../apps/web/config.ts";
import { refusedFlag } from "./flags.ts";
import { claim } from "./lock.ts";

export const USUAL_DATA = fileURLToPath(new URL("../.spillway", import.meta.url));

/** Holds, while `npm start` runs on this data, the address of its web process. */
export const addressFile = (data: string): string => join(data, "address");

export const USAGE = `npm start -- [--without-sink] [--data FOLDER]

  --without-sink  leaves the sink out: everything stays unsaved, and is read all the same
  --data          keeps the data in this folder; without it in .spillway

Settings come from the environment; README.md has them all. Those asked for most:

  PORT=3100                            another port than 3000
  SPILLWAY_KEYS=keys.json              with keys, made by npm run keys
  KAFKA_BROKERS=… and DATABASE_URL=…   servers that run already, instead of local ones
`;

export interface StartOptions {
  readonly help: boolean;
  /** The folder of both servers' data. */
  readonly data: string;
  readonly withSink: boolean;
}

/** @throws Error that says which flag is wrong, and lists those that there are */
export function readOptions(args: readonly string[]): StartOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        help: { type: "boolean", default: false },
        "without-sink": { type: "boolean", default: false },
        data: { type: "string", default: USUAL_DATA },
      },
    });
    return { help: values.help, data: resolve(values.data), withSink: !values["without-sink"] };
  } catch (error) {
    throw refusedFlag(error, USAGE);
  }
}

/** Stands for a local server: its address is known once it runs. */
const LOCAL = { KAFKA_BROKERS: "127.0.0.1:1", DATABASE_URL: "postgres://127.0.0.1" };

/**
 * The port of the web process, once every setting that the roles will read was found right.
 * @throws ConfigError in the words that the role itself would use
 */
export function checkedPort(environment: Readonly<Record<string, string | undefined>>, withSink: boolean): number {
  const given = Object.entries(environment).filter(([, value]) => value);
  const settings = readSettings(webSettings, { ...LOCAL, ...Object.fromEntries(given) });
  readKeys(settings);
  if (withSink) readSettings(sinkSettings, { ...LOCAL, ...Object.fromEntries(given) });
  if (settings.PORT === 0)
    throw new ConfigError(["PORT is 0, but npm start must know it beforehand. Choose one: PORT=3100 npm start."]);
  return settings.PORT;
}

const WORDS: Readonly<Record<string, string>> = {
  EEXIST: "it is no folder",
  ENOTDIR: "a part of that is no folder",
  EACCES: "you may not write there",
};

/**
 * Makes the folder if it is missing, and takes it for this process.
 * @returns the lock file in it, and what gives it back @throws Error when the folder cannot be used, or is in use
 */
export function claimData(data: string): { readonly lock: string; readonly unlock: () => void } {
  const lock = join(data, "start.lock");
  try {
    mkdirSync(data, { recursive: true });
    return { lock, unlock: claim(lock, "npm start") };
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === undefined) throw cause;
    const why = WORDS[code] ?? message;
    throw new Error(`The data cannot lie in ${data}: ${why}. Name a folder: npm start -- --data FOLDER`, { cause });
  }
}
