/** What to do about a server that does not let us in, by the words of whoever refused: no code tells these apart; and about our own. Pure. */

type Remedies = readonly (readonly [RegExp, string])[];

const UNKNOWN_AUTHORITY = /unable to (verify the first|get (local )?issuer) certificate|self-signed certificate/i;
const NOT_NOW = /certificate (has expired|is not yet valid)/i;
const ANOTHER_NAME = /does not match certificate's altnames/i;

const KAFKA: Remedies = [
  [UNKNOWN_AUTHORITY, "KAFKA_TRUSTED_CERT must hold the authority of the broker's certificate"],
  [NOT_NOW, "renew the broker's certificate, or the authority in KAFKA_TRUSTED_CERT, or set this machine's clock"],
  [ANOTHER_NAME, "name the brokers as their certificates do, or set KAFKA_SSLMODE=verify-ca"],
  [
    /alert (certificate|bad certificate|unknown ca|handshake failure|unsupported certificate)/i,
    "KAFKA_CLIENT_CERT must be a certificate that the broker accepts",
  ],
  [
    /before secure TLS connection was established|wrong version number/i,
    "where brokers have no TLS, leave kafka+ssl:// out of KAFKA_BROKERS",
  ],
  [
    /SASL .*failed|SASL mechanism/i,
    "KAFKA_USERNAME, KAFKA_PASSWORD and KAFKA_SASL_MECHANISM must be as the broker knows them",
  ],
  [
    /current SASL state/i,
    "the broker takes no password there: name its port that wants one, or unset KAFKA_USERNAME and KAFKA_PASSWORD",
  ],
  [
    /authorization failed/i,
    "the broker must give that right; where it gives rights by prefix, KAFKA_PREFIX must be it",
  ],
  [
    /Closed connection|Connection closed by the server/i,
    "if it stays so, the broker may want TLS (kafka+ssl:// in KAFKA_BROKERS) or a password (KAFKA_USERNAME)",
  ],
];

const DATABASE: Remedies = [
  [
    UNKNOWN_AUTHORITY,
    "name the file of its authority in DATABASE_URL as sslrootcert=FILE, or set sslmode=no-verify to trust anybody",
  ],
  [NOT_NOW, "renew the server's certificate, or the authority in sslrootcert, or set this machine's clock"],
  [ANOTHER_NAME, "name the host as its certificate does, or set sslmode=no-verify in DATABASE_URL to trust anybody"],
  [/no pg_hba\.conf entry .*no encryption|SSL required/i, "ask for TLS in DATABASE_URL by sslmode=verify-full"],
  [
    /client password must be|no PostgreSQL user name/i,
    "write user and password into DATABASE_URL, as postgres://user:password@host",
  ],
  [
    /permission denied for database/i,
    "whoever starts first makes the schema spillway in it: GRANT CREATE ON DATABASE … TO the user in DATABASE_URL",
  ],
  [
    /permission denied for schema/i,
    "it is another user's: take that one in DATABASE_URL, or grant this one what it needs of the schema spillway",
  ],
  [/valid client certificate/i, "name the files of one, and of its key, in DATABASE_URL as sslcert=FILE&sslkey=FILE"],
  [/does not support SSL/i, "where there is no TLS, leave sslmode out of DATABASE_URL"],
  [
    /remaining connection slots are reserved|too many clients|too many connections for (role|database)/i,
    "pg_stat_activity tells who has them, npm run budget what all may open together",
  ],
];

const remedied = (why: string, remedies: Remedies): string => {
  const remedy = remedies.find(([words]) => words.test(why))?.[1];
  return remedy === undefined ? why : `${why}: ${remedy}`;
};

/** @returns what a broker or the way to it said, and which setting may mend it */
export const withKafkaRemedy = (why: string): string => remedied(why, KAFKA);

/** @returns what a database or the way to it said, and what may mend it */
export const withDatabaseRemedy = (why: string): string => remedied(why, DATABASE);

/** @returns what to do when this process cannot listen, by the error's code */
export function listenRemedy(code: string | undefined): string {
  if (code === "EADDRINUSE") return "free it, or set PORT to another";
  if (code === "EACCES") return "this process has no right to it, as below 1024: set PORT to another";
  return `${code}: set HOST to an address of this machine, such as 127.0.0.1, ::1, 0.0.0.0 or ::`;
}
