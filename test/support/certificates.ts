/** Certificates as servers and clients have them, made by openssl, for a few days. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const DAYS = 3;
const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"] as const;

/** Paths of PEM files. */
interface Issued {
  readonly cert: string;
  readonly key: string;
}

export interface Authority {
  /** Path of its own certificate. */
  readonly cert: string;
  /** @param hosts as `DNS:localhost` or `IP:127.0.0.1` @param days valid for so many; -1: until yesterday */
  issue(name: string, hosts?: readonly string[], days?: number): Issued;
}

const openssl = (...args: readonly string[]): Buffer => execFileSync("openssl", args, { stdio: "pipe" });

/** @param folder where its files are kept */
export function newAuthority(folder: string, name: string): Authority {
  const at = (file: string): string => join(folder, `${name}-${file}`);
  const own = { cert: at("ca.pem"), key: at("ca.key") };
  openssl(
    "req",
    "-x509",
    ...NEW_KEY,
    "-days",
    String(DAYS),
    "-subj",
    `/CN=${name}`,
    "-keyout",
    own.key,
    "-out",
    own.cert,
  );
  return {
    cert: own.cert,
    issue: (subject, hosts = [], days = DAYS) => {
      const [cert, key, request, extensions] = ["pem", "key", "csr", "ext"].map((end) => at(`${subject}.${end}`)) as [
        string,
        string,
        string,
        string,
      ];
      openssl("req", ...NEW_KEY, "-subj", `/CN=${subject}`, "-keyout", key, "-out", request);
      const named = hosts.length > 0 ? `subjectAltName=${hosts.join()}\n` : "";
      writeFileSync(extensions, `basicConstraints=CA:FALSE\n${named}`);
      const from = ["-CA", own.cert, "-CAkey", own.key, "-CAcreateserial", "-extfile", extensions];
      openssl("x509", "-req", "-in", request, ...from, "-days", String(days), "-out", cert);
      return { cert, key };
    },
  };
}
