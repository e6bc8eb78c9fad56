/** What a check finds, and how it names things. */
import type { Identity } from "../facts.ts";
import type { Page } from "../history.ts";

export interface Violation {
  readonly invariant: number;
  readonly what: string;
}

export const violation = (invariant: number, what: string): Violation => ({ invariant, what });

export const nameOf = ({ clientId, id }: Identity): string => `${clientId.slice(0, 40)}/${id.slice(0, 60)}`;

export const pageOf = (page: Page): string =>
  `${page.order} ${page.view} page of ${page.clientId.slice(0, 40)} from ${page.node}`;

export const byTime = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);
