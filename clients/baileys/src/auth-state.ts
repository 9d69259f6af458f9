/**
 * Baileys' auth state, stored in the service. It is loaded once and read from memory; every write goes to the service.
 */
import { hostname } from 'node:os'
import { getHeapStatistics } from 'node:v8'

import type { AuthenticationCreds, AuthenticationState } from 'baileys'

import { backoffMs, sleep } from './backoff.js'
import { initAuthCreds } from './baileys.js'
import { Connection } from './connection.js'
import { KeystoreClosed, KeystoreError, KeystoreLeaseLost, KeystoreUnavailable } from './errors.js'
import { Lease } from './lease.js'
import { UsedKeys } from './used-keys.js'
import { countOf, fromJson, keyFromJson, keysAsJson, ofType, storedKeys, toJson, type StoredKeys } from './values.js'
import { WriteQueue, type Batch } from './write-queue.js'

const MINUTE_MS = 60_000
const LEASE_TTL_S = 60
const CONNECT_FOR_MS = 30_000
const RETRY_FOR_MS = 5 * MINUTE_MS
/** How long `close()` tries to report used keys and to release the lease. Both only save work later. */
const RELEASE_FOR_MS = 5_000

export interface KeystoreOptions {
  /** The service's address: `http://127.0.0.1:8080`. */
  url: string
  /** The token that `python run.py token create --company …` printed. */
  token: string
  /** The WhatsApp account's name in the store. */
  company: string
  /** Hold a lease, so that no other process writes this account's keys. Default: true. */
  lease?: boolean
  /** Distinguishes bots of one account on one machine; use the same name at each start. */
  instance?: string
  /** How long the lease lasts without renewal, 5 to 3600 seconds. Default: 60. */
  leaseTtlS?: number
  /** How long to wait for another holder's lease to end, in ms; true: twice `leaseTtlS`. Default: no wait. */
  waitForLease?: boolean | number
  /** Take the lease from another holder, whose writes fail from then on. Default: false. */
  force?: boolean
  /** Called once when another process has the lease. Nothing is written any more: end the process or the socket. */
  onLeaseLost?: (error: KeystoreLeaseLost) => void
  /** How long to try to connect, in ms. Default: 30,000. */
  connectForMs?: number
  /** How long a write, or `close()`, waits in an outage of the service, in ms. Default: 300,000. */
  retryForMs?: number
  /** Receives a warning for each failure; a pino logger will do. */
  logger?: KeystoreLogger
}

export interface KeystoreLogger {
  warn(fields: object, message: string): void
}

export interface KeystoreStats {
  readonly keys: number
  readonly requests: number
  readonly retries: number
  readonly writesSaved: number
  readonly writesWaiting: number
  readonly bytesWaiting: number
  readonly usesWaiting: number
  readonly epoch: number | undefined
  readonly leaseLost: boolean
  readonly loadMs: number
  readonly lastError: string | undefined
}

export interface KeystoreAuthState {
  readonly state: AuthenticationState
  readonly saveCreds: () => Promise<void>
  /** Saves waiting writes, reports used keys, releases the lease. Rejects if a write isn't saved. */
  readonly close: () => Promise<void>
  readonly stats: () => KeystoreStats
}

/** Loads the account's state. Throws a KeystoreError whose message says what to do. */
export async function useKeystoreAuthState(options: KeystoreOptions): Promise<KeystoreAuthState> {
  const account = new Account(options)
  await account.open()
  const keys = {
    get: account.get,
    set: account.set,
    clear: account.clear
  } as unknown as AuthenticationState['keys'] // The key types of Baileys 6 and 7 differ; this takes any.
  return {
    state: { creds: account.creds, keys },
    saveCreds: account.saveCreds,
    close: account.close,
    stats: account.stats
  }
}

class Account {
  creds!: AuthenticationCreds
  readonly #options: KeystoreOptions
  readonly #connection: Connection
  readonly #queue: WriteQueue
  readonly #usedKeys = new UsedKeys()
  readonly #keys = new Map<string, Map<string, string>>()
  readonly #retryForMs: number
  #lease: Lease | undefined
  #leaseLost: KeystoreLeaseLost | undefined
  #closing: Promise<void> | undefined
  #reportTimer: NodeJS.Timeout | undefined
  #loadMs = 0

  constructor(options: KeystoreOptions) {
    this.#options = options
    this.#connection = new Connection(options.url, options.token, options.company)
    this.#retryForMs = options.retryForMs ?? RETRY_FOR_MS
    this.#queue = new WriteQueue(this.#send, this.#retryForMs)
  }

  async open(): Promise<void> {
    const {
      lease,
      leaseTtlS = LEASE_TTL_S,
      instance,
      force = false,
      waitForLease = false,
      connectForMs
    } = this.#options
    const waitMs = typeof waitForLease === 'number' ? waitForLease : waitForLease ? leaseTtlS * 2_000 : 0
    const holder = instance === undefined ? hostname() : `${hostname()}/${instance}`
    const started = performance.now()
    const giveUpAt = Date.now() + (connectForMs ?? CONNECT_FOR_MS)
    if (lease !== false) {
      const leaseOptions = { holder, ttlS: leaseTtlS, force, waitMs }
      this.#lease = await this.#retryUntil(giveUpAt, () => Lease.take(this.#connection, leaseOptions, this.#onLost))
    }
    try {
      // Load after the lease is taken: from then on no write of an older holder lands.
      this.#readState(await this.#retryUntil(giveUpAt, () => this.#connection.send({ method: 'GET', path: '/state' })))
    } catch (error) {
      await this.#lease?.release().catch(() => {})
      throw error
    }
    this.#loadMs = performance.now() - started
    this.#reportTimer = setInterval(() => void this.#report(), MINUTE_MS).unref()
  }

  readonly get = async (type: string, ids: readonly string[]): Promise<Record<string, unknown>> => {
    if (this.#closing) throw closed()
    const values: Record<string, unknown> = {}
    const stored = this.#keys.get(type)
    for (const id of ids) {
      const json = stored?.get(id)
      if (json === undefined) continue
      values[id] = keyFromJson(type, json)
      this.#usedKeys.add(type, id)
    }
    return values
  }

  readonly set = (data: Record<string, Record<string, unknown> | undefined>): Promise<void> =>
    handled(async () => this.#write(storedKeys(data)))

  readonly clear = (): Promise<void> => {
    const deletions = Array.from(
      this.#keys,
      ([type, byId]) => [type, new Map(Array.from(byId.keys(), id => [id, null]))] as const
    )
    return handled(async () => this.#write(new Map(deletions)))
  }

  readonly saveCreds = (): Promise<void> => handled(async () => this.#write(new Map(), toJson(this.creds)))

  readonly close = (): Promise<void> => {
    this.#closing ??= this.#close()
    return this.#closing
  }

  readonly stats = (): KeystoreStats => ({
    keys: countOf(this.#keys),
    requests: this.#connection.requests,
    retries: this.#queue.retries,
    writesSaved: this.#queue.acknowledged,
    writesWaiting: this.#queue.waiting,
    bytesWaiting: this.#queue.waitingBytes,
    usesWaiting: this.#usedKeys.size,
    epoch: this.#lease?.epoch,
    leaseLost: this.#leaseLost !== undefined,
    loadMs: this.#loadMs,
    lastError: this.#queue.lastError
  })

  /** Changes memory first, so that the next read returns the new value, then queues the write. */
  #write(keys: StoredKeys, creds?: string): Promise<void> {
    if (keys.size === 0 && creds === undefined) return Promise.resolve()
    this.#queue.check(keys, creds)
    for (const [type, byId] of keys) {
      const stored = ofType(this.#keys, type)
      for (const [id, json] of byId) {
        if (json === null) stored.delete(id)
        else stored.set(id, json)
        this.#usedKeys.forget(type, id)
      }
    }
    return this.#queue.add(keys, creds)
  }

  readonly #send = async ({ keys, creds }: Batch, isRetry: boolean): Promise<void> => {
    try {
      // An earlier attempt may still be running in the store. Renewing waits for it, so that it lands before this one.
      if (isRetry) await this.#lease?.renew()
      await this.#post(keys, creds).catch(async (error: unknown) => {
        if (!(error instanceof KeystoreLeaseLost) || !this.#lease) throw error
        await this.#lease.renew() // It may have expired without another holder.
        await this.#post(keys, creds)
      })
    } catch (error) {
      if (error instanceof KeystoreLeaseLost) this.#onLost(error)
      else this.#warn('keystore_write_failed', error)
      throw error
    }
  }

  #post(keys: StoredKeys, creds: string | undefined): Promise<unknown> {
    const epoch = this.#lease?.epoch
    if (creds === undefined)
      return this.#connection.send({ method: 'POST', path: '/keys', body: keysAsJson(keys), epoch })
    if (keys.size === 0) return this.#connection.send({ method: 'PUT', path: '/creds', body: creds, epoch })
    const body = `{"creds":${creds},"keys":${keysAsJson(keys)}}`
    return this.#connection.send({ method: 'POST', path: '/state', body, epoch })
  }

  readonly #onLost = (error: KeystoreLeaseLost): void => {
    if (this.#leaseLost) return
    this.#leaseLost = error
    this.#stopTimers()
    this.#queue.end(error)
    this.#warn('keystore_lease_lost', error)
    const { onLeaseLost } = this.#options
    if (onLeaseLost && !this.#closing) setImmediate(onLeaseLost, error)
  }

  async #close(): Promise<void> {
    this.#stopTimers()
    const hadWaiting = this.#queue.waiting > 0
    await this.#queue.close(closed(), this.#retryForMs)
    if (hadWaiting && this.#leaseLost) throw this.#leaseLost
    const release = async (): Promise<void> => {
      if (this.#leaseLost) return
      const missing = this.#inMemory(await this.#usedKeys.report(this.#connection))
      if (missing.size > 0) await this.#post(missing, undefined)
      await this.#lease?.release()
    }
    await this.#retryUntil(Date.now() + RELEASE_FOR_MS, release).catch((error: unknown) =>
      this.#warn('keystore_release_failed', error)
    )
  }

  #stopTimers(): void {
    clearInterval(this.#reportTimer)
    this.#lease?.stop()
  }

  /** Reports used keys and the process's memory; runs once a minute. */
  async #report(): Promise<void> {
    const warn = (error: unknown): void => this.#warn('keystore_report_failed', error)
    const heartbeat = { method: 'POST', path: '/heartbeat', body: JSON.stringify(memory()) } as const
    await Promise.all([
      this.#usedKeys.report(this.#connection).then(this.#rewrite).catch(warn),
      this.#connection.send(heartbeat).catch(warn)
    ])
  }

  /** Writes keys again that were used, and that the store doesn't have. */
  readonly #rewrite = async (missing: ReadonlyArray<readonly [string, string]>): Promise<void> => {
    const keys = this.#inMemory(missing)
    if (keys.size > 0 && !this.#closing) await this.#queue.add(keys)
  }

  /** Returns those of the keys that are in memory. */
  #inMemory(names: ReadonlyArray<readonly [string, string]>): StoredKeys {
    const keys: StoredKeys = new Map()
    for (const [type, id] of names) {
      const json = this.#keys.get(type)?.get(id)
      if (json !== undefined) ofType(keys, type).set(id, json)
    }
    return keys
  }

  #readState(answer: string): void {
    const { creds, keys } = JSON.parse(answer) as { creds: unknown; keys: Record<string, Record<string, unknown>> }
    this.creds = creds === null ? initAuthCreds() : (fromJson(JSON.stringify(creds)) as AuthenticationCreds)
    for (const [type, byId] of Object.entries(keys)) {
      this.#keys.set(type, new Map(Object.entries(byId).map(([id, value]) => [id, JSON.stringify(value)])))
    }
  }

  async #retryUntil<T>(giveUpAt: number, action: () => Promise<T>): Promise<T> {
    for (let failures = 1; ; failures += 1) {
      try {
        return await action()
      } catch (error) {
        if (!(error instanceof KeystoreUnavailable)) throw error
        const delayMs = backoffMs(failures, error.retryAfterMs)
        if (Date.now() + delayMs > giveUpAt) throw error
        this.#warn('keystore_unavailable', error)
        await sleep(delayMs)
      }
    }
  }

  #warn(event: string, error: unknown): void {
    this.#options.logger?.warn({ event, company: this.#connection.company, error: String(error) }, event)
  }
}

/** The write's promise, with its rejection handled: `ev.on('creds.update', saveCreds)` awaits nothing. */
function handled(write: () => Promise<void>): Promise<void> {
  const saved = write()
  saved.catch(() => {})
  return saved
}

function memory(): Record<string, number> {
  const { heap_size_limit } = getHeapStatistics()
  const { heapUsed, heapTotal, rss } = process.memoryUsage()
  return { heap_used_bytes: heapUsed, heap_total_bytes: heapTotal, heap_limit_bytes: heap_size_limit, rss_bytes: rss }
}

function closed(): KeystoreError {
  return new KeystoreClosed('the auth state was closed; call useKeystoreAuthState again')
}
