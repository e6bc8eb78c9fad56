/** Whether a broker is ready: it answers a Metadata request and names at least one live broker. */
import { connect } from "node:net";

const ANSWER_LIMIT_MS = 2_000;
/** size, api key 3 (Metadata), version 8, correlation id 1, client id null, no topics, three flags off. */
const REQUEST = Buffer.from("00000011" + "0003" + "0008" + "00000001" + "ffff" + "00000000" + "000000", "hex");
/** size, correlation id, throttle time, then the count of brokers. */
const BROKER_COUNT_AT = 12;

/** Never rejects: no connection, no answer in 2 s and an answer without brokers are all false. */
export function answersMetadata(host: string, port: number): Promise<boolean> {
  return new Promise((answer) => {
    const socket = connect(port, host);
    let got = Buffer.alloc(0);
    const end = (ready: boolean): void => {
      socket.destroy();
      answer(ready);
    };
    socket.setTimeout(ANSWER_LIMIT_MS, () => end(false));
    socket.on("error", () => end(false));
    socket.on("close", () => end(false));
    socket.on("connect", () => socket.write(REQUEST));
    socket.on("data", (chunk) => {
      got = Buffer.concat([got, chunk]);
      if (got.length >= BROKER_COUNT_AT + 4) end(got.readInt32BE(BROKER_COUNT_AT) > 0);
    });
  });
}
