/** The proxy, by the name that the promises know. */
export { createProxy, type TcpProxy as Proxy } from "../../infra/proxy.ts";
