import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { expect, test } from "vitest";
import { givenKafka } from "../../infra/given.ts";

test("of brokers that want TLS npm start asks only whether somebody takes connections: the roles have the certificates", async () => {
  // It says nothing, as a broker does to who does not begin with TLS.
  const silent = createServer().listen(0, "127.0.0.1");
  await once(silent, "listening");
  const brokers = `kafka+ssl://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const given = givenKafka(brokers, () => undefined);
  await given.start();
  expect(given.brokers).toBe(brokers);
  silent.close();
});
