/** Foreign text in messages: short, quoted, well-formed. */

/** A value for a person: in quotes, at most 40 characters of it. */
export function excerpt(text: string): string {
  return JSON.stringify(shorten(text, 40));
}

/** A JSON pointer (RFC 6901) for a person: long keys and long paths are cut, with `…`. */
export function pointer(path: readonly (string | number)[]): string {
  const steps = path.map((step) => shorten(String(step), 40).replaceAll("~", "~0").replaceAll("/", "~1"));
  return shorten(steps.map((step) => `/${step}`).join(""), 200);
}

function shorten(text: string, charactersMax: number): string {
  return (text.length > charactersMax ? `${text.slice(0, charactersMax)}…` : text).toWellFormed();
}
