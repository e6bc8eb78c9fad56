/** How far a bench is: a bar at a terminal, lines elsewhere. On stderr, so that stdout holds the report alone. */
import { Presets, SingleBar } from "cli-progress";

export interface Progress {
  /** @param what is measured now */
  step(what: string): void;
  end(): void;
}

export function createProgress(steps: number): Progress {
  const bar = process.stderr.isTTY
    ? new SingleBar({ format: "{bar} {value}/{total} {what}", stream: process.stderr, hideCursor: true }, Presets.rect)
    : undefined;
  bar?.start(steps, 0, { what: "" });
  let done = 0;
  return {
    step: (what) => {
      if (bar) bar.update(done, { what });
      else process.stderr.write(`${done + 1}/${steps} ${what}\n`);
      done += 1;
    },
    end: () => {
      bar?.update(steps, { what: "" });
      bar?.stop();
    },
  };
}
