/** Certificates and keys that settings name: PEM as text, or a file of it. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";

export type PemKind = "CERTIFICATE" | "PRIVATE KEY";

/** Begins with what the value is and continues with what is wrong with it, to be put behind a setting's name. */
export type Pem = { readonly pem: string; readonly isText: boolean } | { readonly problem: string };

const BLOCK = /-----BEGIN ([A-Z ]+)-----[\s\S]+?-----END \1-----/g;
/** Longer than paths are: then it is a text that was cut or quoted wrongly. */
const PATH_CHARACTERS_MAX = 300;

/** @returns what of that kind is in it, without quotes or words around it; a problem never repeats a key */
export function readPem(value: string, kind: PemKind): Pem {
  const isText = value.includes("-----BEGIN ");
  // A key that was pasted without its head and tail, wherever, is no path: names of files have a dot, base64 has none.
  const isPath = !isText && value.length <= PATH_CHARACTERS_MAX && /\.|^\/|^.{1,39}$/.test(value);
  const refuse = (why: string): Pem => ({
    problem:
      `is ${isPath ? value : `a text of ${value.length} characters`}: ${why}. ` +
      `It is PEM (-----BEGIN …), with its line ends, or the path of a file of it.`,
  });
  try {
    // Files of settings often hold one line, with \n for its ends.
    const text = isText ? value.replaceAll(/(\\r)?\\n/g, "\n") : readFileSync(value, "utf8");
    const found = [...text.matchAll(BLOCK)].flatMap(([block, label]) => (label?.endsWith(kind) ? [block] : []));
    if (found.length === 0) return refuse(`there is no ${kind} in it`);
    if (kind === "CERTIFICATE") for (const block of found) new X509Certificate(block);
    return { pem: found.map((block) => `${block}\n`).join(""), isText };
  } catch (error) {
    const { code, message, syscall } = error as NodeJS.ErrnoException;
    return refuse(syscall === undefined ? message : `it cannot be read (${code})`);
  }
}

/** What a peer is shown: a certificate, maybe with others behind it that lead to its authority, and its key. */
export interface PemPair {
  readonly cert: string;
  readonly key: string;
}

/**
 * A process that would be refused by every peer says so at once, and begins anew with what lies in its files then.
 * @param names of the settings
 * @returns what is wrong with the pair, and what to do
 */
export function pairProblems({ cert, key }: PemPair, names: PemPair, nowMs: number): string[] {
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return [
      `${names.key} is not the key of ${names.cert}, has a passphrase, or is torn (${why}): take the key that the first certificate ` +
        `in ${names.cert} was made for; openssl pkey removes a passphrase.`,
    ];
  }
  const { validFromDate: from, validToDate: to } = new X509Certificate(cert);
  if (from.getTime() <= nowMs && nowMs <= to.getTime()) return [];
  return [
    `${names.cert} is valid from ${from.toISOString()} to ${to.toISOString()}, and it is ${new Date(nowMs).toISOString()}: ` +
      "renew it, or set this machine's clock.",
  ];
}
