/** The demo's figures in words, and whether all is well. Pure. */
import { ms, quantile, whole } from "../figures.ts";
import { type Findings, isClean } from "./compare.ts";
import type { FollowFigures } from "./follow.ts";
import type { ReadFigures } from "./read-back.ts";
import type { SendFigures } from "./send.ts";

export interface Outcome {
  readonly run: string;
  readonly events: number;
  readonly airports: number;
  readonly rate: number;
  readonly sent: SendFigures;
  readonly live: FollowFigures & {
    readonly airport: string;
    readonly events: number;
    readonly findings: Findings;
    readonly examples: readonly string[];
    /** Why not everything came, if so. */
    readonly trouble: string | undefined;
  };
  /** One for each time that everything was read back, named by when. */
  readonly reads: readonly { readonly when: string; readonly figures: ReadFigures }[];
}

export interface Verdict {
  readonly clean: boolean;
  readonly lines: readonly string[];
}

export function verdict({ run, events, airports, rate, sent, live, reads }: Outcome): Verdict {
  const clean = isClean(live.findings) && reads.every(({ figures }) => isClean(figures.findings));
  const { findings } = live;
  const readLines = reads.flatMap(({ when, figures }) => [
    `  ${when.padEnd(13)} ${whole(figures.findings.found)} of ${whole(events)} events of ${airports} airports: ` +
      `${whole(figures.saved)} saved, ${whole(figures.unsaved)} unsaved; ${faults(figures.findings)}`,
    ...examples(figures.examples),
  ]);
  const lines = [
    "",
    `Run ${run}: ${whole(events)} flights of ${airports} airports, ${whole(rate)} a second wanted; their times taken as UTC`,
    `  acknowledged  ${whole(events)} in ${sent.seconds.toFixed(1)} s, ${whole(events / sent.seconds)} a second; a request ` +
      `p50 ${ms(quantile(sent.ackMs, 0.5))}, p99 ${ms(quantile(sent.ackMs, 0.99))}; ${whole(sent.resends)} resends`,
    `  live          ${live.airport}: ${whole(findings.found)} of ${whole(live.events)} events in ${whole(live.frames)} frames, ` +
      `${findings.missing + findings.outOfOrder} gaps, ${findings.doubled} repeats, ${findings.different} different, ` +
      `${live.interruptions} interruptions${live.trouble === undefined ? "" : `; ${live.trouble}`}`,
    ...examples(live.examples),
    ...readLines,
    clean ? "Clean: what was acknowledged is there, once, in order, unchanged." : "NOT CLEAN: see above.",
  ];
  return { clean, lines };
}

const faults = ({ missing, doubled, outOfOrder, different }: Findings): string =>
  `${missing} missing, ${doubled} doubled, ${outOfOrder} out of order, ${different} different`;

const examples = (texts: readonly string[]): string[] => texts.slice(0, 5).map((text) => `      ${text}`);
