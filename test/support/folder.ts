/** Throw-away folders. */
import { chmodSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A new empty folder that other users can pass through: as root, Postgres runs as another user. The caller removes it. */
export function newFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `spillway-${name}-`));
  chmodSync(folder, 0o755);
  return folder;
}
