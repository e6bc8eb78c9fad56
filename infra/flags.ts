/** What a person is told who gave a command a flag that it does not know. */

/** @param usage what the command accepts @returns the error to throw instead of `parseArgs`' own */
export function refusedFlag(error: unknown, usage: string): Error {
  const told = error instanceof Error ? error.message : String(error);
  // "Unknown option '--x'. To specify a positional argument starting with a '-', …": the second half helps nobody here.
  return new Error(`${told.split(/\. |\.?\n/, 1)[0]}. What it accepts:\n\n${usage}`, { cause: error });
}
