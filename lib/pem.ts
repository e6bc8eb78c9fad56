/** Certificates and keys that settings name: PEM as text, or a file of it. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";

export type PemKind = "CERTIFICATE" | "PRIVATE KEY";

/** Begins with what the value is and continues with what is wrong with it, to be put behind a setting's name. */
export type Pem = { readonly pem: string } | { readonly problem: string };

const BLOCK = /-----BEGIN ([A-Z ]+)-----[\s\S]+?-----END \1-----/g;
/** Longer than paths are: then it is a text that was cut or quoted wrongly. */
const PATH_CHARACTERS_MAX = 300;

/** @returns the text itself; a problem never repeats a key */
export function readPem(value: string, kind: PemKind): Pem {
  const isText = value.includes("-----BEGIN ");
  // A key that was pasted without its head and tail is no path either: names of files have a dot, base64 has none.
  const isPath = !isText && value.length <= PATH_CHARACTERS_MAX && (kind === "CERTIFICATE" || value.includes("."));
  const refuse = (why: string): Pem => ({
    problem:
      `is ${isPath ? value : `a text of ${value.length} characters`}: ${why}. ` +
      `It is PEM (-----BEGIN …), with its line ends, or the path of a file of it.`,
  });
  try {
    const pem = isText ? value : readFileSync(value, "utf8");
    const found = [...pem.matchAll(BLOCK)].filter(([, label]) => label?.endsWith(kind));
    if (found.length === 0) return refuse(`there is no ${kind} in it`);
    if (kind === "CERTIFICATE") for (const [text] of found) new X509Certificate(text);
    return { pem };
  } catch (error) {
    const { code, message, syscall } = error as NodeJS.ErrnoException;
    return refuse(syscall === undefined ? message : `it cannot be read (${code})`);
  }
}
