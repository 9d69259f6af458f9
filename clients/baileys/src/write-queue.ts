/**
 * A queue of writes to the store. It sends them in order, one request at a time, and merges waiting writes.
 *
 * A write is acknowledged when its request is. In an outage of the service a write stays queued and is retried for as
 * long as the bot runs. Its promise rejects after `retryForMs`, but the write is never dropped: memory already has it,
 * and a later write must not land without it.
 */
import { backoffMs, sleep } from './backoff.js'
import { KeystoreError, KeystoreRefused, KeystoreUnavailable } from './errors.js'
import { countOf, ofType, type StoredKeys } from './values.js'

/** The largest batch: well below the service's limit for one request (16 MiB). */
const BATCH_BYTES = 8 * 1024 * 1024
const BATCH_KEYS = 5_000

/** The most that waits in an outage: some ten thousand sessions. More is refused, which bounds the bot's memory. */
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
  #inFlight: Write[] = []
  /** The number of next writes to send one by one, because together they were refused. */
  #singly = 0
  #running: Promise<void> | undefined
  #ended: KeystoreError | undefined
  #closeAt = Infinity

  constructor(
    /** Sends a batch once; `isRetry` if it may have been sent before. */
    private readonly send: (batch: Batch, isRetry: boolean) => Promise<void>,
    private readonly retryForMs: number
  ) {}

  get waiting(): number {
    return this.#waiting.length + this.#inFlight.length
  }

  /** Throws if the queue can't accept this write; changes nothing. */
  check(keys: StoredKeys, creds?: string): void {
    if (this.#ended) throw this.#ended
    if (this.waitingBytes + bytesOf(keys, creds) > WAITING_BYTES) {
      throw new KeystoreUnavailable(
        `${this.waiting} writes wait for the service, and no more are accepted: ${this.lastError ?? 'it is slow'}`
      )
    }
  }

  /** Queues a write, and resolves when it is durable. A write too large for one request is sent in several. */
  async add(keys: StoredKeys, creds?: string): Promise<void> {
    await Promise.all(partsOf(keys).map(part => this.#add(part, creds)))
  }

  /** Accepts no more writes, and resolves when all are saved. Rejects if they aren't within `withinMs`. */
  async close(reason: KeystoreError, withinMs: number): Promise<void> {
    this.#closeAt = Date.now() + withinMs
    this.#ended ??= reason
    await this.#running
    if (this.waiting > 0)
      throw new KeystoreUnavailable(`${this.waiting} writes aren't saved: ${this.lastError ?? 'no answer yet'}`)
  }

  /** Accepts and sends no more: rejects every waiting and every later write with this error. */
  end(error: KeystoreError): void {
    this.#ended = error
    for (const write of [...this.#inFlight, ...this.#waiting]) write.reject(error)
    this.#waiting = []
    this.#inFlight = []
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
    // Baileys writes creds and the keys that they count within one turn of the event loop: wait for the end of it.
    await new Promise(resolve => setImmediate(resolve))
    while (this.#waiting.length > 0) {
      this.#inFlight = this.#next()
      try {
        await this.#sendUntilSaved(merged(this.#inFlight))
      } catch (error) {
        if (!this.#settle(error as KeystoreError)) break
        continue
      }
      for (const write of this.#inFlight) {
        this.waitingBytes -= write.bytes
        this.acknowledged += 1
        write.acknowledge()
      }
      this.#inFlight = []
    }
    this.#running = undefined
  }

  #next(): Write[] {
    const singly = this.#singly > 0
    if (singly) this.#singly -= 1
    let bytes = 0
    let count = 0
    let length = 0
    for (const write of this.#waiting) {
      bytes += write.bytes
      count += write.count
      if (length > 0 && (singly || bytes > BATCH_BYTES || count > BATCH_KEYS)) break
      length += 1
    }
    return this.#waiting.splice(0, length)
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
        this.#rejectOverdue(error)
        if (Date.now() + delayMs > this.#closeAt) throw error
        await sleep(delayMs)
        if (this.#inFlight.length === 0) return // The queue was ended meanwhile.
      }
    }
  }

  /** Handles the batch after an error that no retry will fix. Returns true if the next batch can be sent. */
  #settle(error: KeystoreError): boolean {
    const failed = this.#inFlight
    this.#inFlight = []
    if (error instanceof KeystoreRefused && failed.length > 1) {
      this.#singly = failed.length
      this.#waiting.unshift(...failed)
      return true
    }
    if (error instanceof KeystoreUnavailable) {
      // The queue is closing: the writes still count as unsaved.
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

  #rejectOverdue(error: KeystoreUnavailable): void {
    const now = Date.now()
    for (const write of [...this.#inFlight, ...this.#waiting]) if (write.giveUpAt <= now) write.reject(error)
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
      const stored = ofType(keys, type)
      for (const [id, json] of byId) stored.set(id, json)
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
      ofType(part, type).set(id, json)
      count += 1
      bytes += size
    }
  }
  return parts
}

/** An estimate: JSON's characters are mostly ASCII. */
function bytesOf(keys: StoredKeys, creds?: string): number {
  let bytes = creds?.length ?? 0
  for (const byId of keys.values()) for (const [id, json] of byId) bytes += bytesOfKey(id, json)
  return bytes
}

function bytesOfKey(id: string, json: string | null): number {
  return id.length + (json?.length ?? 4) + 8
}
