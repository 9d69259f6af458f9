/**
 * Baileys' auth state of an account. It is loaded once and read from memory; every write goes to the store.
 */
import { getHeapStatistics } from 'node:v8'

import { backoffMs, sleep } from './backoff.js'
import { findBaileys, type AuthenticationState, type Baileys } from './baileys.js'
import { KeystoreClosed, KeystoreError, KeystoreLeaseLost, KeystoreUnavailable, KeystoreWentBack } from './errors.js'
import { KeyTable } from './key-table.js'
import { Lease } from './lease.js'
import { secretKeysOf, type SecretKey } from './sealing.js'
import { StoredValues, type Plain } from './stored-values.js'
import type { Memory, NumberedWrite, State, Transport, Write } from './transport.js'
import { UsedKeys } from './used-keys.js'
import { Codec, countOf, isJson, ofType, type StoredKeys } from './values.js'
import { partsOf, WriteQueue } from './write-queue.js'
import { callerOf, readsInWrapper } from './wrapper.js'

const MINUTE_MS = 60_000
const LEASE_TTL_S = 60
const CONNECT_FOR_MS = 30_000
/** All reads of a wrapped state come from the wrapper, so the first ones show it. */
const READS_TO_CHECK = 20
const RETRY_FOR_MS = 5 * MINUTE_MS
/** How long `close()` tries to report used keys and to release the lease. Both only save work later. */
const RELEASE_FOR_MS = 5_000

/** The options of an account. */
export interface AccountOptions {
  /**
   * Seal every value with this key of 32 bytes (or their base64), so that the database and the service never have one in clear.
   * To change the key, give several, newest first. Without the option values are stored in clear.
   */
  secretKey?: SecretKey | readonly SecretKey[]
  /** Hold a lease, so that no other process writes this account's keys. Default: true. */
  lease?: boolean | undefined
  /** Distinguishes bots of one account on one machine; use the same name at each start. */
  instance?: string | undefined
  /** How long the lease lasts without renewal, 5 to 3600 seconds. Default: 60. */
  leaseTtlS?: number | undefined
  /** How long to wait for another holder's lease to end, in ms; true: twice `leaseTtlS`. Default: no wait. */
  waitForLease?: boolean | number | undefined
  /** Take the lease from another holder, whose writes fail from then on. Default: false. */
  force?: boolean | undefined
  /** Called once when another process has the lease. Nothing is written any more: end the process or the socket. */
  onLeaseLost?: ((error: KeystoreLeaseLost) => void) | undefined
  /** Called once when the store refuses a write for good. Nothing is written any more: end the process or the socket. */
  onSaveFailed?: ((error: Error) => void) | undefined
  /** How long to try to connect, in ms. Default: 30,000. */
  connectForMs?: number | undefined
  /** How long `close()` waits in an outage, in ms. Default: 300,000. */
  retryForMs?: number | undefined
  /** Baileys, if it is a fork or not installed as `baileys` or `@whiskeysockets/baileys`: `import * as baileys from '…'`. */
  baileys?: Baileys | undefined
  /** Receives a warning for each failure; a pino logger will do. */
  logger?: KeystoreLogger | undefined
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
  /** True if the store refused a write for good, or the lease was lost: nothing is written any more. */
  readonly saveFailed: boolean
  /** How often the database went back to an older state, and the whole state was written to it. */
  readonly databaseWentBack: number
  /** Values that can't be read: they are left out, and stay in the store. */
  readonly unreadable: number
  /** With `secretKey`: values that are stored in clear or under an older key, and wait to be sealed. */
  readonly sealing: number
  readonly loadMs: number
  readonly lastError: string | undefined
}

export interface KeystoreAuthState {
  readonly state: AuthenticationState
  readonly saveCreds: () => Promise<void>
  /** Saves waiting writes, reports used keys, releases the lease. Rejects if a write isn't saved or the lease was lost. */
  readonly close: () => Promise<void>
  readonly stats: () => KeystoreStats
}

/** Loads an account's state. Throws a KeystoreError whose message says what to do. */
export async function openAccount(transport: Transport, company: string, options: AccountOptions): Promise<KeystoreAuthState> {
  const baileys = await findBaileys(options.baileys)
  const account = new Account(transport, company, options, baileys, await readsInWrapper(baileys))
  await account.open()
  const keys = {
    get: account.get,
    set: account.set,
    clear: account.clear,
    list: (type: string) => account.list(type),
    listIds: (type: string) => account.listIds(type)
  } as unknown as AuthenticationState['keys'] // The key types of Baileys 6 and 7 differ; this takes any.
  return {
    state: { creds: account.creds, keys },
    saveCreds: account.saveCreds,
    close: account.close,
    stats: account.stats
  }
}

type Creds = AuthenticationState['creds']

class Account {
  creds!: Creds
  readonly #codec: Codec
  readonly #transport: Transport
  readonly #company: string
  readonly #options: AccountOptions
  readonly #queue = new WriteQueue({
    requestsOf: async batch => {
      const writes: Write[] = batch.clears ? [{ keys: new Map(), creds: undefined, clears: true }] : []
      if (batch.whole) writes.push(...(await this.#wholeState()).map(part => this.#values.sealed(part)))
      else if (!batch.clears) writes.push(this.#values.sealed(batch))
      return writes.map(write => this.#numbered(write))
    },
    send: request => this.#send(request),
    ended: error => this.#onEnded(error),
    bytesOf: (type, json) => this.#values.bytesOf(type, json)
  })
  readonly #values: StoredValues
  readonly #usedKeys = new UsedKeys()
  #keys = new Map<string, KeyTable>()
  readonly #retryForMs: number
  /** The JSON of the latest creds that were loaded or written. */
  #creds: string | undefined
  #lease: Lease | undefined
  #readsToCheck = READS_TO_CHECK
  #isWritingWhole = false
  #wentBack = 0
  #closing: Promise<void> | undefined
  #reportTimer: NodeJS.Timeout | undefined
  #loadMs = 0

  constructor(
    transport: Transport,
    company: string,
    options: AccountOptions,
    private readonly baileys: Baileys,
    /** The place in Baileys that reads for a wrapped state. */
    private readonly wrapper: string | undefined
  ) {
    const warnLeftOut = (type: string, id: string, reason: string): void =>
      this.#warn('keystore_value_unreadable', reason, { type, id })
    this.#codec = new Codec(baileys)
    this.#values = new StoredValues(company, secretKeysOf(options), warnLeftOut)
    this.#transport = transport
    this.#company = company
    this.#options = options
    this.#retryForMs = options.retryForMs ?? RETRY_FOR_MS
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
    const started = performance.now()
    const giveUpAt = Date.now() + (connectForMs ?? CONNECT_FOR_MS)
    const events = { ended: (error: Error) => this.#queue.end(error), wentBack: this.#onWentBack }
    const state = await this.#retryUntil(giveUpAt, async () => {
      if (lease === false) return this.#transport.load(this.#company)
      const leaseOptions = { instance, ttlS: leaseTtlS, force, waitMs }
      const taken = await Lease.take(this.#transport, this.#company, leaseOptions, events)
      this.#lease = taken.lease
      return taken.state
    })
    try {
      this.#readState(state)
    } catch (error) {
      await this.#finally('keystore_release_failed', async () => this.#lease?.release())
      throw error
    }
    this.#transport.join()
    this.#loadMs = performance.now() - started
    this.#reportTimer = setInterval(() => void this.#report(), MINUTE_MS).unref()
    if (this.#lease) void this.#sealRest()
  }

  readonly get = async (type: string, ids: readonly string[]): Promise<Record<string, unknown>> => {
    if (this.#closing) throw closed()
    if (this.wrapper && this.#readsToCheck > 0) this.#checkRead(callerOf(this.get))
    const values: Record<string, unknown> = {}
    const stored = this.#keys.get(type)
    for (const id of ids) {
      const json = stored?.get(id)
      if (json === undefined) continue
      const key = this.#parsed(type, id, json)
      if (!key) continue
      values[id] = key.value
      this.#usedKeys.add(type, id)
    }
    return values
  }

  #checkRead(caller: string): void {
    this.#readsToCheck -= 1
    if (caller !== this.wrapper) return
    this.#readsToCheck = 0
    this.#warn('keystore_state_is_cached_twice', 'don\'t wrap the state in makeCacheableSignalKeyStore: what its cache answers never counts as used')
  }

  /** All keys of a type, for Baileys' `migrateAuthState`. To be listed is no use: it renews no expiry. */
  async *list(type: string): AsyncGenerator<readonly [string, unknown]> {
    for (const [id, json] of this.#listed(type)) {
      const key = this.#parsed(type, id, json)
      if (key) yield [id, key.value]
    }
  }

  async *listIds(type: string): AsyncGenerator<string> {
    for (const [id, json] of this.#listed(type)) if (this.#isReadable(type, id, json)) yield id
  }

  /** A key as Baileys expects it; undefined after it was left out, because its JSON can't be parsed. */
  #parsed(type: string, id: string, json: string): { readonly value: unknown } | undefined {
    try {
      return { value: this.#codec.keyFromJson(type, json) }
    } catch (error) {
      if (this.#isReadable(type, id, json)) throw error
      return undefined
    }
  }

  /** Returns true if a key's JSON can be parsed. Otherwise the key is left out from now on. */
  #isReadable(type: string, id: string, json: string): boolean {
    if (isJson(json)) return true
    this.#keys.get(type)?.delete(id)
    this.#values.leaveOut(type, id)
    return false
  }

  *#listed(type: string): Generator<readonly [string, string]> {
    if (this.#closing) throw closed()
    yield* this.#keys.get(type) ?? []
  }

  readonly set = (data: Record<string, Record<string, unknown> | undefined>): Promise<void> =>
    handled(async () => this.#write(this.#codec.storedKeys(data)))

  readonly clear = (): Promise<void> =>
    handled(async () => {
      const saved = this.#queue.clear()
      for (const byId of this.#keys.values()) byId.clear()
      this.#usedKeys.clear()
      this.#values.cleared()
      return saved
    })

  readonly saveCreds = (): Promise<void> => handled(async () => this.#write(new Map(), this.#codec.toJson(this.creds)))

  readonly close = (): Promise<void> => {
    this.#closing ??= this.#close()
    return this.#closing
  }

  readonly stats = (): KeystoreStats => ({
    keys: countOf(this.#keys),
    requests: this.#transport.requests,
    retries: this.#queue.retries,
    writesSaved: this.#queue.acknowledged,
    writesWaiting: this.#queue.waiting,
    bytesWaiting: this.#queue.waitingBytes,
    usesWaiting: this.#usedKeys.size,
    epoch: this.#lease?.epoch,
    leaseLost: this.#queue.failure instanceof KeystoreLeaseLost,
    saveFailed: this.#queue.failure !== undefined,
    databaseWentBack: this.#wentBack,
    unreadable: this.#values.unreadable,
    sealing: this.#values.unsealed,
    loadMs: this.#loadMs,
    lastError: this.#queue.lastError
  })

  /** Changes memory first, so that the next read returns the new value, then queues the write. */
  #write(keys: StoredKeys, creds?: string): Promise<void> {
    if (keys.size === 0 && creds === undefined) return Promise.resolve()
    this.#queue.check(keys, creds)
    this.#creds = creds ?? this.#creds
    if (creds !== undefined) this.#values.credsWritten()
    for (const [type, byId] of keys) {
      let stored = this.#keys.get(type)
      if (!stored) this.#keys.set(type, (stored = new KeyTable()))
      for (const [id, json] of byId) {
        if (json === null) stored.delete(id)
        else stored.set(id, json)
        this.#usedKeys.forget(type, id)
        this.#values.written(type, id)
      }
    }
    return this.#queue.add(keys, creds)
  }

  #numbered(write: Write): NumberedWrite {
    return { ...write, number: this.#lease?.next(), acknowledged: this.#lease?.acknowledged ?? 0 }
  }

  /** Returns the writes that make the store's state that of memory. More than fits into one request is several. */
  async #wholeState(): Promise<Plain[]> {
    const stored = await this.#transport.load(this.#company)
    await new Promise(resolve => setImmediate(resolve)) // No turn of the event loop is half done then.
    const keys = this.#values.deletionsOf(stored, (type, id) => this.#keys.get(type)?.get(id) !== undefined)
    for (const [type, byId] of this.#keys) {
      for (const [id, json] of byId) if (this.#isReadable(type, id, json)) ofType(keys, type).set(id, json)
    }
    const parts = partsOf(keys, this.#values.bytesOf)
    const last = parts.pop() ?? new Map()
    return [...parts.map(keys => ({ keys, creds: undefined })), { keys: last, creds: this.#creds }]
  }

  async #send(write: NumberedWrite): Promise<boolean> {
    const lease = this.#lease
    const warned = (error: unknown): never => {
      this.#warn('keystore_write_failed', error)
      throw error
    }
    if (lease?.isConfirmed === false) {
      await lease.renew().catch(warned)
      return false
    }
    try {
      const sent = write.clears
        ? this.#transport.clear(this.#company, write)
        : this.#transport.write(this.#company, write)
      await sent.catch(warned)
    } catch (error) {
      if (!(error instanceof KeystoreLeaseLost || error instanceof KeystoreWentBack) || !lease) throw error
      await lease.renew() // It notices a database that went back, and writes the whole state.
      throw new KeystoreUnavailable(`the lease was renewed: ${error.message}`)
    }
    if (write.number) lease?.acknowledge(write.number)
    return true
  }

  readonly #onWentBack = (): void => {
    if (this.#isWritingWhole || this.#queue.failure) return
    this.#isWritingWhole = true
    this.#wentBack += 1
    this.#warn('keystore_database_went_back', 'the database lacks writes that it had acknowledged; writing the whole state')
    const written = (): void => void (this.#isWritingWhole = false)
    this.#queue.writeWhole().then(written, written)
  }

  #onEnded(error: Error): void {
    this.#stopTimers()
    const isLost = error instanceof KeystoreLeaseLost
    this.#warn(isLost ? 'keystore_lease_lost' : 'keystore_save_failed', error)
    const { onLeaseLost, onSaveFailed } = this.#options
    if (this.#closing) return // close() rejects.
    if (isLost && onLeaseLost) setImmediate(onLeaseLost, error)
    if (!isLost && onSaveFailed) setImmediate(onSaveFailed, error)
  }

  async #close(): Promise<void> {
    clearInterval(this.#reportTimer)
    try {
      await this.#queue.close(closed(), this.#retryForMs)
      let missing: NumberedWrite | undefined
      await this.#finally('keystore_report_failed', async () => {
        if (!missing) {
          const keys = this.#inMemory(await this.#usedKeys.report(this.#transport, this.#company))
          if (keys.size === 0) return
          missing = this.#numbered(this.#values.sealed({ keys, creds: undefined }))
        }
        await this.#transport.write(this.#company, missing)
      })
    } finally {
      this.#stopTimers()
      this.#transport.leave()
      const isHeld = !(this.#queue.failure instanceof KeystoreLeaseLost) && this.#queue.waiting === 0
      if (isHeld) await this.#finally('keystore_release_failed', async () => this.#lease?.release())
    }
  }

  /** Tries for a few seconds what only saves work later. */
  async #finally(event: string, action: () => Promise<void>): Promise<void> {
    await this.#retryUntil(Date.now() + RELEASE_FOR_MS, action).catch((error: unknown) => this.#warn(event, error))
  }

  #stopTimers(): void {
    clearInterval(this.#reportTimer)
    this.#lease?.stop()
  }

  /** Reports used keys and the process's memory; runs once a minute. */
  async #report(): Promise<void> {
    const warn = (error: unknown): void => this.#warn('keystore_report_failed', error)
    await Promise.all([
      this.#usedKeys.report(this.#transport, this.#company).then(this.#rewrite).catch(warn),
      this.#transport.heartbeat(this.#company, memory()).catch(warn)
    ])
  }

  /** Writes keys again that were used, and that the store doesn't have. */
  readonly #rewrite = async (missing: ReadonlyArray<readonly [string, string]>): Promise<void> => {
    const keys = this.#inMemory(missing)
    if (keys.size === 0 || this.#closing) return
    this.#queue.check(keys)
    await this.#queue.add(keys)
  }

  /** Seals what is stored in clear or under an older key, in parts, so that the bot's own writes come between them. */
  async #sealRest(): Promise<void> {
    const jsonOf = (type: string, id: string): string | undefined => {
      const json = this.#keys.get(type)?.get(id)
      return json !== undefined && this.#isReadable(type, id, json) ? json : undefined
    }
    for (let failures = 0; !this.#closing && !this.#queue.failure; ) {
      const part = this.#values.nextUnsealed(jsonOf, this.#creds)
      if (!part) return
      try {
        this.#queue.check(part.keys, part.creds)
        await this.#queue.add(part.keys, part.creds)
        this.#values.partSealed(part)
        failures = 0
      } catch {
        if (this.#closing || this.#queue.failure) return // The next start does the rest.
        failures += 1
        await sleep(backoffMs(failures)) // Too much waits for the store.
      }
    }
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

  #readState(state: State): void {
    const { creds, keys } = this.#values.opened(state)
    this.#creds = creds
    this.creds = (creds === undefined ? this.baileys.initAuthCreds() : this.#codec.fromJson(creds)) as Creds
    this.#keys = new Map(Array.from(keys, ([type, byId]) => [type, new KeyTable(byId)]))
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

  #warn(event: string, error: unknown, fields: object = {}): void {
    this.#options.logger?.warn({ event, company: this.#company, ...fields, error: String(error) }, event)
  }
}

/** The write's promise, with its rejection handled: `ev.on('creds.update', saveCreds)` awaits nothing. */
function handled(write: () => Promise<void>): Promise<void> {
  const saved = write()
  saved.catch(() => {})
  return saved
}

function memory(): Memory {
  const { heapUsed, heapTotal, rss } = process.memoryUsage()
  return { heapUsed, heapTotal, heapLimit: getHeapStatistics().heap_size_limit, rss }
}

function closed(): KeystoreError {
  return new KeystoreClosed('the auth state was closed; open the account again')
}
