/** Progress for whoever watches: a bar at a terminal, a line every other second elsewhere. */
import { Presets, SingleBar } from "cli-progress";
import { whole } from "../figures.ts";

const LINE_MS = 2_000;

export interface Progress {
  /** @param more what else is worth telling, `resends 3` */
  at(done: number, more?: string): void;
  end(): void;
}

/** @param what `sending`, in front of the figures */
export function createProgress(what: string, total: number): Progress {
  return process.stdout.isTTY ? bar(what, total) : lines(what, total);
}

function bar(what: string, total: number): Progress {
  const format = `${what.padEnd(12)} {bar} {percentage}% {value}/{total} {more}`;
  const shown = new SingleBar({ format, stream: process.stdout, hideCursor: true, barsize: 30 }, Presets.rect);
  shown.start(total, 0, { more: "" });
  return { at: (done, more = "") => shown.update(done, { more }), end: () => shown.stop() };
}

function lines(what: string, total: number): Progress {
  let toldAt = performance.now();
  let last = { done: 0, more: "" };
  const tell = (): void => {
    const rest = last.more === "" ? "" : `, ${last.more}`;
    process.stdout.write(`${what} ${whole(last.done)} of ${whole(total)}${rest}\n`);
  };
  return {
    at: (done, more = "") => {
      last = { done, more };
      if (performance.now() - toldAt < LINE_MS) return;
      toldAt = performance.now();
      tell();
    },
    end: tell,
  };
}
