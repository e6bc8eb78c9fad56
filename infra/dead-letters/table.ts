/** Dead letters in words. Pure: what came from foreign records reaches no terminal as it is. */
import { whole } from "../figures.ts";
import type { Letter, Refusal } from "./api.ts";

const CELL_MAX = 40;
const DETAIL_MAX = 160;
const HEAD = ["position", "set aside", "reason", "client", "id", "re-driven"];

/** Characters that would move a terminal's cursor, or look like others, are shown by their numbers. */
export function plain(text: string, charactersMax: number): string {
  const safe = text
    .toWellFormed()
    .replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, (one) => `\\u{${one.codePointAt(0)?.toString(16)}}`);
  return safe.length > charactersMax ? `${safe.slice(0, charactersMax - 1)}…` : safe;
}

const moment = (time: string): string => plain(time, 30).slice(0, 19).replace("T", " ");

/** A line for each, under a head; its detail beneath it where it is another than the one above. */
export function table(letters: readonly Letter[]): string[] {
  const rows = letters.map(({ position, setAsideAt, reason, clientId, id, redriven }) =>
    [position, moment(setAsideAt), reason, clientId ?? "?", id ?? "?", redriven ? moment(redriven.at) : "no"].map(
      (cell) => plain(cell, CELL_MAX),
    ),
  );
  const widths = HEAD.map((name, nth) => Math.max(name.length, ...rows.map((row) => row[nth]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, nth) => cell.padEnd(widths[nth] ?? 0))
      .join("  ")
      .trimEnd();
  return [
    line(HEAD),
    ...rows.flatMap((row, nth) => {
      const detail = letters[nth]?.detail ?? "";
      return detail === letters[nth - 1]?.detail ? [line(row)] : [line(row), `    ${plain(detail, DETAIL_MAX)}`];
    }),
  ];
}

/** As JSON, which it stays: what JSON lets through and a terminal should not get is escaped. */
export function jsonText(value: unknown): string {
  const escaped = (text: string): string =>
    [...Buffer.from(text, "utf16le").swap16().toString("hex").matchAll(/.{4}/g)].map(([unit]) => `\\u${unit}`).join("");
  return JSON.stringify(value, null, 2).replaceAll(/[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu, escaped);
}

const REFUSALS_SHOWN = 20;

/** What a re-drive came to. */
export function verdict(redriven: number, refused: readonly Refusal[]): { clean: boolean; lines: string[] } {
  const shown = refused.slice(0, REFUSALS_SHOWN);
  const lines = shown.map(
    (one) => `  ${one.position}  ${plain(one.reason, CELL_MAX)}: ${plain(one.detail, DETAIL_MAX)}`,
  );
  if (refused.length > shown.length) lines.push(`  and ${whole(refused.length - shown.length)} more`);
  const clean = refused.length === 0;
  const nothing = redriven + refused.length === 0 ? "Nothing to re-drive: " : "";
  lines.push(`${nothing}${whole(redriven)} re-driven, ${whole(refused.length)} refused${clean ? "." : ": see above."}`);
  return { clean, lines };
}
