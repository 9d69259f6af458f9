/**
 * Writes on their way to the store: in order, one request at a time, those that wait merged into the next.
 *
 * A write is acknowledged when the request that carried it was. While the service is away it stays here and is tried
 * again for as long as the bot runs; whoever waits for it is told after `retryForMs`. It is never dropped then: memory
 * has moved on with it, and a later write must not land without it.
 */
import { backoffMs, sleep } from './backoff.js'
import { KeystoreError, KeystoreRefused, KeystoreUnavailable } from './errors.js'
import { countOf, type StoredKeys } from './values.js'

/** Well below what the service takes in one request (16 MiB). */
const BATCH_BYTES = 8 * 1024 * 1024
const BATCH_KEYS = 5_000

/** For a service that is away: some ten thousand sessions. More is refused, so that a bot's memory has an end. */
const WAITING_BYTES = 64 * 1024 * 1024

export interface Batch {
  readonly keys: StoredKeys
  readonly creds: string | undefined
}

interface Write extends Batch {
  readonly bytes: number
  readonly count: number
  readonly giveUpAt: number
  readonly acknowledge: () => void
  readonly reject: (error: KeystoreError) => void
}

export class WriteQueue {
  waitingBytes = 0
  retries = 0
  acknowledged = 0
  lastError: string | undefined
  #waiting: Write[] = []
  #inHand: Write[] = []
  /** How many of the next go one by one: together they were refused. */
  #alone = 0
  #running: Promise<void> | undefined
  #ended: KeystoreError | undefined
  #closeAt = Infinity

  constructor(
    /** Sends a batch once; `again` when it may have been sent before. */
    private readonly send: (batch: Batch, again: boolean) => Promise<void>,
    private readonly retryForMs: number
  ) {}

  get waiting(): number {
    return this.#waiting.length + this.#inHand.length
  }

  /** Throws, having taken nothing, when no write can be taken. */
  check(keys: StoredKeys, creds?: string): void {
    if (this.#ended) throw this.#ended
    if (this.waitingBytes + bytesOf(keys, creds) > WAITING_BYTES) {
      throw new KeystoreUnavailable(
        `${this.waiting} writes wait for the service already, and no more are taken: ${this.lastError ?? 'it is slow'}`
      )
    }
  }

  /** Resolves once it is durable. What is too large for one request goes in several. */
  async add(keys: StoredKeys, creds?: string): Promise<void> {
    await Promise.all(partsOf(keys).map(part => this.#add(part, creds)))
  }

  /** Takes no more, and resolves when all is saved; rejects when it isn't within `withinMs`. */
  async close(reason: KeystoreError, withinMs: number): Promise<void> {
    this.#closeAt = Date.now() + withinMs
    this.#ended ??= reason
    await this.#running
    if (this.waiting > 0)
      throw new KeystoreUnavailable(`${this.waiting} writes aren't saved: ${this.lastError ?? 'the service is away'}`)
  }

  /** Takes and sends no more: everything that waits, and whatever comes, is rejected with this. */
  end(error: KeystoreError): void {
    this.#ended = error
    for (const write of [...this.#inHand, ...this.#waiting]) write.reject(error)
    this.#waiting = []
    this.#inHand = []
    this.waitingBytes = 0
  }

  #add(keys: StoredKeys, creds: string | undefined): Promise<void> {
    return new Promise((acknowledge, reject) => {
      const bytes = bytesOf(keys, creds)
      const giveUpAt = Date.now() + this.retryForMs
      this.#waiting.push({ keys, creds, bytes, count: countOf(keys), giveUpAt, acknowledge, reject })
      this.waitingBytes += bytes
      this.#running ??= this.#run()
    })
  }

  async #run(): Promise<void> {
    // What Baileys writes in one go, creds and the keys they count, comes within one turn of the event loop.
    await new Promise(resolve => setImmediate(resolve))
    while (this.#waiting.length > 0) {
      this.#inHand = this.#next()
      try {
        await this.#sendUntilSaved(merged(this.#inHand))
      } catch (error) {
        if (!this.#settle(error as KeystoreError)) break
        continue
      }
      for (const write of this.#inHand) {
        this.waitingBytes -= write.bytes
        this.acknowledged += 1
        write.acknowledge()
      }
      this.#inHand = []
    }
    this.#running = undefined
  }

  #next(): Write[] {
    const alone = this.#alone > 0
    if (alone) this.#alone -= 1
    let bytes = 0
    let count = 0
    let taken = 0
    for (const write of this.#waiting) {
      bytes += write.bytes
      count += write.count
      if (taken > 0 && (alone || bytes > BATCH_BYTES || count > BATCH_KEYS)) break
      taken += 1
    }
    return this.#waiting.splice(0, taken)
  }

  async #sendUntilSaved(batch: Batch): Promise<void> {
    for (let failures = 0; ;) {
      try {
        await this.send(batch, failures > 0)
        this.lastError = undefined
        return
      } catch (error) {
        this.lastError = (error as Error).message
        if (!(error instanceof KeystoreUnavailable)) throw error
        failures += 1
        this.retries += 1
        const delayMs = backoffMs(failures, error.retryAfterMs)
        this.#tellThoseWhoWaitedTooLong(error)
        if (Date.now() + delayMs > this.#closeAt) throw error
        await sleep(delayMs)
        if (this.#inHand.length === 0) return // Ended meanwhile.
      }
    }
  }

  /** What becomes of the writes in hand after an error that repeating doesn't mend; whether the next can go. */
  #settle(error: KeystoreError): boolean {
    const failed = this.#inHand
    this.#inHand = []
    if (error instanceof KeystoreRefused && failed.length > 1) {
      this.#alone = failed.length
      this.#waiting.unshift(...failed)
      return true
    }
    if (error instanceof KeystoreUnavailable) {
      // Closing: it stays counted as unsaved.
      this.#waiting.unshift(...failed)
      for (const write of this.#waiting) write.reject(error)
      return false
    }
    for (const write of failed) {
      this.waitingBytes -= write.bytes
      write.reject(error)
    }
    return true
  }

  #tellThoseWhoWaitedTooLong(error: KeystoreUnavailable): void {
    const now = Date.now()
    for (const write of [...this.#inHand, ...this.#waiting]) if (write.giveUpAt <= now) write.reject(error)
  }
}

function merged(writes: readonly Write[]): Batch {
  const [first] = writes
  if (first && writes.length === 1) return first
  const keys: StoredKeys = new Map()
  let creds: string | undefined
  for (const write of writes) {
    creds = write.creds ?? creds
    for (const [type, byId] of write.keys) {
      const already = keys.get(type)
      if (!already) keys.set(type, new Map(byId))
      else for (const [id, json] of byId) already.set(id, json)
    }
  }
  return { keys, creds }
}

function partsOf(keys: StoredKeys): StoredKeys[] {
  if (countOf(keys) <= BATCH_KEYS && bytesOf(keys) <= BATCH_BYTES) return [keys]
  const parts: StoredKeys[] = []
  let part: StoredKeys = new Map()
  let count = 0
  let bytes = 0
  for (const [type, byId] of keys) {
    for (const [id, json] of byId) {
      const size = bytesOfKey(id, json)
      if (count === 0 || count === BATCH_KEYS || bytes + size > BATCH_BYTES) {
        parts.push((part = new Map()))
        count = bytes = 0
      }
      const already = part.get(type)
      if (already) already.set(id, json)
      else part.set(type, new Map([[id, json]]))
      count += 1
      bytes += size
    }
  }
  return parts
}

/** About: JSON's characters are mostly ASCII. */
function bytesOf(keys: StoredKeys, creds?: string): number {
  let bytes = creds?.length ?? 0
  for (const byId of keys.values()) for (const [id, json] of byId) bytes += bytesOfKey(id, json)
  return bytes
}

function bytesOfKey(id: string, json: string | null): number {
  return id.length + (json?.length ?? 4) + 8
}
