/** Baileys' auth state over the service: read once, served from memory, every write through. */
import { hostname } from 'node:os'
import { getHeapStatistics } from 'node:v8'

import type { AuthenticationCreds, AuthenticationState } from 'baileys'

import { backoffMs, sleep } from './backoff.js'
import { initAuthCreds } from './baileys.js'
import { Connection } from './connection.js'
import { KeystoreClosed, KeystoreError, KeystoreLeaseLost, KeystoreUnavailable } from './errors.js'
import { Lease } from './lease.js'
import { Uses } from './uses.js'
import { countOf, fromJson, keyFromJson, keysAsJson, storedKeys, toJson, type StoredKeys } from './values.js'
import { WriteQueue, type Batch } from './write-queue.js'

const MINUTE_MS = 60_000
const LEASE_TTL_S = 60
const CONNECT_FOR_MS = 30_000
const RETRY_FOR_MS = 5 * MINUTE_MS
/** A bot that ends doesn't wait long for what only saves work later. */
const GOODBYE_MS = 5_000

export interface KeystoreOptions {
  /** Where the service is: `http://127.0.0.1:8080`. */
  url: string
  /** What `python run.py token create --company …` printed. */
  token: string
  /** The WhatsApp account's name in the store. */
  company: string
  /** Whether to keep other processes from writing this account's keys. Default: true. */
  lease?: boolean
  /** Tells this bot from others of the account on one machine; the same at each start. */
  instance?: string
  /** How long a lease lives that isn't renewed, 5 to 3600 seconds. Default: 60. */
  leaseTtlS?: number
  /** How long to wait for another holder's lease to end, in ms; true: twice `leaseTtlS`. Default: not at all. */
  waitForLease?: boolean | number
  /** Take the lease from another holder, whose writes fail from then on. Default: false. */
  force?: boolean
  /** Called once when the lease has passed on; nothing is written any more. End the process, or at least the socket. */
  onLeaseLost?: (error: KeystoreLeaseLost) => void
  /** How long to try to connect, in ms. Default: 30,000. */
  connectForMs?: number
  /** How long a write, or `close()`, waits for a service that is away, in ms. Default: 300,000. */
  retryForMs?: number
  /** Hears of outages; a pino logger will do. */
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
  /** Saves what waits, reports uses, gives the lease back. Rejects when something isn't saved. */
  readonly close: () => Promise<void>
  readonly stats: () => KeystoreStats
}

/** Loads the account's state. Throws a KeystoreError that says what to do. */
export async function useKeystoreAuthState(options: KeystoreOptions): Promise<KeystoreAuthState> {
  const account = new Account(options)
  await account.open()
  const keys = {
    get: account.get,
    set: account.set,
    clear: account.clear
  } as unknown as AuthenticationState['keys'] // Types of keys differ between Baileys 6 and 7; we take any.
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
  readonly #uses = new Uses()
  readonly #keys = new Map<string, Map<string, string>>()
  readonly #retryForMs: number
  #lease: Lease | undefined
  #lost: KeystoreLeaseLost | undefined
  #closing: Promise<void> | undefined
  #minutely: NodeJS.Timeout | undefined
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
      const wanted = { holder, ttlS: leaseTtlS, force, waitMs }
      this.#lease = await this.#untilThere(giveUpAt, () => Lease.take(this.#connection, wanted, this.#onLost))
    }
    try {
      // After the lease: no write of an older holder lands once it is taken.
      this.#fill(await this.#untilThere(giveUpAt, () => this.#connection.send({ method: 'GET', path: '/state' })))
    } catch (error) {
      await this.#lease?.release().catch(() => {})
      throw error
    }
    this.#loadMs = performance.now() - started
    this.#minutely = setInterval(() => void this.#report(), MINUTE_MS).unref()
  }

  readonly get = async (type: string, ids: readonly string[]): Promise<Record<string, unknown>> => {
    if (this.#closing) throw closed()
    const found: Record<string, unknown> = {}
    const stored = this.#keys.get(type)
    for (const id of ids) {
      const json = stored?.get(id)
      if (json === undefined) continue
      found[id] = keyFromJson(type, json)
      this.#uses.add(type, id)
    }
    return found
  }

  readonly set = (data: Record<string, Record<string, unknown> | undefined>): Promise<void> =>
    told(async () => this.#write(storedKeys(data)))

  readonly clear = (): Promise<void> => {
    const nothing = Array.from(
      this.#keys,
      ([type, byId]) => [type, new Map(Array.from(byId.keys(), id => [id, null]))] as const
    )
    return told(async () => this.#write(new Map(nothing)))
  }

  readonly saveCreds = (): Promise<void> => told(async () => this.#write(new Map(), toJson(this.creds)))

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
    usesWaiting: this.#uses.size,
    epoch: this.#lease?.epoch,
    leaseLost: this.#lost !== undefined,
    loadMs: this.#loadMs,
    lastError: this.#queue.lastError
  })

  /** Memory first, so that what is written is read at once; then the store. */
  #write(keys: StoredKeys, creds?: string): Promise<void> {
    if (keys.size === 0 && creds === undefined) return Promise.resolve()
    this.#queue.check(keys, creds)
    for (const [type, byId] of keys) {
      const stored = this.#keys.get(type) ?? new Map<string, string>()
      this.#keys.set(type, stored)
      for (const [id, json] of byId) {
        if (json === null) stored.delete(id)
        else stored.set(id, json)
        this.#uses.forget(type, id)
      }
    }
    return this.#queue.add(keys, creds)
  }

  readonly #send = async ({ keys, creds }: Batch, again: boolean): Promise<void> => {
    try {
      // An earlier try may still be under way in the store: renewing waits for it, so that it lands before this one.
      if (again) await this.#lease?.renew()
      await this.#post(keys, creds).catch(async (error: unknown) => {
        if (!(error instanceof KeystoreLeaseLost) || !this.#lease) throw error
        await this.#lease.renew() // It may only have run out.
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
    if (this.#lost) return
    this.#lost = error
    this.#stopTimers()
    this.#queue.end(error)
    this.#warn('keystore_lease_lost', error)
    const { onLeaseLost } = this.#options
    if (onLeaseLost && !this.#closing) setImmediate(onLeaseLost, error)
  }

  async #close(): Promise<void> {
    this.#stopTimers()
    const waits = this.#queue.waiting > 0
    await this.#queue.close(closed(), this.#retryForMs)
    if (waits && this.#lost) throw this.#lost
    const goodbye = async (): Promise<void> => {
      if (this.#lost) return
      await this.#uses.report(this.#connection)
      await this.#lease?.release()
    }
    await this.#untilThere(Date.now() + GOODBYE_MS, goodbye).catch((error: unknown) =>
      this.#warn('keystore_goodbye_failed', error)
    )
  }

  #stopTimers(): void {
    clearInterval(this.#minutely)
    this.#lease?.stop()
  }

  /** Once a minute: which keys were used, and how much memory there is. */
  async #report(): Promise<void> {
    const warn = (error: unknown): void => this.#warn('keystore_report_failed', error)
    const heartbeat = { method: 'POST', path: '/heartbeat', body: JSON.stringify(memory()) } as const
    await Promise.all([this.#uses.report(this.#connection).catch(warn), this.#connection.send(heartbeat).catch(warn)])
  }

  #fill(answer: string): void {
    const { creds, keys } = JSON.parse(answer) as { creds: unknown; keys: Record<string, Record<string, unknown>> }
    this.creds = creds === null ? initAuthCreds() : (fromJson(JSON.stringify(creds)) as AuthenticationCreds)
    for (const [type, byId] of Object.entries(keys)) {
      this.#keys.set(type, new Map(Object.entries(byId).map(([id, value]) => [id, JSON.stringify(value)])))
    }
  }

  async #untilThere<T>(giveUpAt: number, act: () => Promise<T>): Promise<T> {
    for (let failures = 1; ; failures += 1) {
      try {
        return await act()
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

/** Its promise, with nothing to crash on where nobody waits for it: `ev.on('creds.update', saveCreds)`. */
function told(write: () => Promise<void>): Promise<void> {
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
