/** `npm run settings`: writes the README's table of settings from the declarations; the test of it says when to. */
import { readFileSync, writeFileSync } from "node:fs";
import { type Declarations, settingRows } from "#lib/config.ts";
import { ingestSettings } from "../apps/ingest/config.ts";
import { querySettings } from "../apps/query/config.ts";
import { relaySettings } from "../apps/relay/config.ts";
import { sinkSettings } from "../apps/sink/config.ts";
import { webSettings } from "../apps/web/config.ts";

const README = new URL("../README.md", import.meta.url);
const BEGIN = "<!-- settings -->";
const END = "<!-- /settings -->";

const ROLES: Readonly<Record<string, Declarations>> = {
  ingest: ingestSettings,
  query: querySettings,
  sink: sinkSettings,
  relay: relaySettings,
  web: webSettings,
};

/** The table in Markdown: one row a setting, with the roles that read it. A default that differs by role is told for each. */
export function settingsTable(): string {
  const rows = new Map<string, { fallbacks: Map<string, string[]>; sentence: string }>();
  for (const [role, declarations] of Object.entries(ROLES))
    for (const { name, fallback, sentence } of settingRows(declarations)) {
      const row = rows.get(name) ?? { fallbacks: new Map<string, string[]>(), sentence };
      rows.set(name, row);
      row.fallbacks.set(fallback, [...(row.fallbacks.get(fallback) ?? []), role]);
    }
  const lines = [...rows].map(([name, { fallbacks, sentence }]) => {
    const roles = [...fallbacks.values()].flat();
    const where = roles.length === Object.keys(ROLES).length ? "all" : roles.join(", ");
    const plain = [...fallbacks.keys()];
    const fallback =
      plain.length === 1 ? plain[0] : [...fallbacks].map(([one, of]) => `${one} (${of.join(", ")})`).join(", ");
    return `| \`${name}\` | ${fallback} | ${where} | ${sentence} |`;
  });
  return ["| setting | default | role | what it is |", "|---|---|---|---|", ...lines].join("\n");
}

/** The README with its table replaced. @throws Error when the markers are gone */
export function withTable(readme: string): string {
  const begin = readme.indexOf(BEGIN);
  const end = readme.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`README.md has lost its markers ${BEGIN} and ${END}: put them back`);
  return `${readme.slice(0, begin)}${BEGIN}\n${settingsTable()}\n${readme.slice(end)}`;
}

if (import.meta.main) {
  writeFileSync(README, withTable(readFileSync(README, "utf8")));
  process.stdout.write("README.md: the table of settings is written\n");
}
