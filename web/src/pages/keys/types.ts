// Keys and teams as the admin API shows them.
import type { Role } from "../../core/login";

export const PERIODS = ["day", "week", "month", "total"] as const;
export type Period = (typeof PERIODS)[number];
export type KeyRole = Role | "user";

export interface Budget {
  usd: number;
  per: Period;
  /** From this share on it is told. */
  soft?: number;
}

/** Of the budget that holds: its own, else the configuration's. */
export interface Spent {
  usd: number;
  of_usd: number;
  per: Period;
  resets_at: string | null;
}

/** What can be set; null is: all, or what the configuration gives every key. */
export interface KeyFields {
  name: string;
  role: KeyRole;
  models: string[] | null;
  endpoints: string[] | null;
  owner: string;
  team: string | null;
  requests_per_minute: number | null;
  tokens_per_minute: number | null;
  max_parallel: number | null;
  budget: Budget | null;
  expires_at: string | null;
}

export interface Key extends KeyFields {
  id: string;
  state: "active" | "expired" | "revoked";
  created_at: string;
  revoked_at: string | null;
  previous_until: string | null;
  spent?: Spent | null;
}

export interface KeyWithSecret extends Key {
  key: string;
}

export interface Team {
  id: string;
  name: string;
  budget: Budget | null;
  created_at: string;
  spent?: Spent | null;
}

export interface Usage {
  group: string | null;
  requests: number;
  errors: number;
  input_tokens: number;
  output_tokens: number;
  cost_usd: number;
}
