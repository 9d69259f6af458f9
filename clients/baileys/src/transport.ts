/**
 * The way to the store: over HTTP to the service (`http.ts`), or straight to its database (`postgres.ts`).
 *
 * A method throws KeystoreUnavailable if the store gave no answer; the caller repeats the call. Any other error is the
 * store's own verdict. Accounts of one process share a transport.
 */
import type { SentKeys, Value } from './values.js'

/** A write's number under a lease, which makes its repetitions one write. */
export interface WriteNumber {
  readonly epoch: number
  readonly seq: number
}

/** What one call writes, all or nothing: keys (null deletes one), and creds unless they are undefined. */
export interface Write {
  readonly keys: SentKeys
  readonly creds: Value | undefined
  /** True if it puts all keys into the trash instead, and leaves the creds. */
  readonly clears?: boolean
}

export interface NumberedWrite extends Write {
  /** Undefined without a lease. */
  readonly number: WriteNumber | undefined
  /** The number of the last acknowledged write under this epoch; 0 before the first. The store refuses a write if it lacks that one. */
  readonly acknowledged: number
}

export interface LeaseRequest {
  readonly holder: string
  readonly ttlS: number
  /** Take the lease from another holder. */
  readonly force?: boolean
  /** The epoch of the lease to renew; without it the lease is taken. */
  readonly epoch?: number
  /** The latest write that was acknowledged: the store tells whether it still has it. */
  readonly acknowledged?: WriteNumber | undefined
}

export interface LeaseAnswer extends WriteNumber {
  /** True if the database lacks the acknowledged write. */
  readonly behind: boolean
}

/**
 * A company's whole state. A value is undefined if its format isn't known here. The number is the latest write's; it is 0, 0
 * without any lease.
 */
export interface State extends WriteNumber {
  readonly creds: Value | undefined
  readonly keys: Map<string, Map<string, Value | undefined>>
}

/** A process's memory, in bytes. */
export interface Memory {
  readonly heapUsed: number
  readonly heapTotal: number
  readonly heapLimit: number
  readonly rss: number
}

/** The names of keys: types with ids. */
export type KeyNames = ReadonlyMap<string, ReadonlySet<string>>

export interface Transport {
  /** Takes the lease and loads, in one round trip. */
  open(company: string, request: LeaseRequest): Promise<LeaseAnswer & { readonly state: State }>
  load(company: string): Promise<State>
  /** Writes; not for a write that clears. */
  write(company: string, write: NumberedWrite): Promise<void>
  /** Puts all keys into the trash. The creds stay. */
  clear(company: string, write: NumberedWrite): Promise<void>
  /** Takes or renews the lease. */
  lease(company: string, request: LeaseRequest): Promise<LeaseAnswer>
  /** Ends the lease, and expects no more heartbeats. */
  release(company: string, holder: string, epoch: number): Promise<void>
  /** Renews used keys, and returns those that aren't stored. */
  use(company: string, keys: KeyNames): Promise<ReadonlyArray<readonly [string, string]>>
  /** Reports that the bot lives. */
  heartbeat(company: string, memory: Memory): Promise<void>
  /** An account begins or ends to use this transport. */
  join(): void
  leave(): void
  /** Ends the connections. */
  close(): Promise<void>
  /** The number of calls so far. */
  readonly requests: number
}

/** Longer than the store works on a call, so that a call that timed out is no longer being written. */
export const ANSWER_TIMEOUT_MS = 40_000
