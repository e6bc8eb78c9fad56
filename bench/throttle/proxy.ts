/** A longer way to the database. */
import { proxiedPostgres, type TcpProxy } from "../../infra/proxy.ts";

/** The proxy before a PostgreSQL, with the URL that leads through it. */
export async function createDelay(url: string): Promise<TcpProxy & { readonly url: string }> {
  const found = await proxiedPostgres(url);
  return Object.assign(found.proxy, { url: found.url });
}
