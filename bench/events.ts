/** The events that all settings of a bench send: the same ones in every run, about 200 bytes of JSON each. */

const CLIENTS = 1_000;
const TYPES = ["order.placed", "order.paid", "order.shipped"];

export interface BenchEvent {
  readonly clientId: string;
  readonly type: string;
  readonly data: { readonly order: number; readonly amount: number; readonly currency: string; readonly note: string };
}

/** @param from the first one's number; the same number is the same event */
export function benchEvents(from: number, count: number): BenchEvent[] {
  return Array.from({ length: count }, (_, at) => {
    const n = from + at;
    return {
      clientId: `client-${(n * 7_919) % CLIENTS}`,
      type: TYPES[n % TYPES.length] as string,
      data: {
        order: n,
        amount: (n % 997) / 4,
        currency: "EUR",
        note: "left at the door, please ring twice ".repeat(2),
      },
    };
  });
}
