/**
 * A queue of writes to the store. It sends them in order, one request at a time.
 *
 * Whatever was written in one turn of the event loop is one request, also after turns that wait were merged. A write stays
 * queued, and its caller waits, until the service has it. Memory has it already, and a later write must not land without
 * it. If the service refuses a write for good, the queue ends: the store keeps a consistent past.
 */
import { backoffMs, sleep } from './backoff.js'
import { KeystoreError, KeystoreUnavailable } from './errors.js'
import type { NumberedWrite } from './transport.js'
import { bytesOfKey, countOf, ofType, type BytesOf, type StoredKeys } from './values.js'

/** The service's limits for one request are 16 MiB, 10,000 ids and 100 types; the names take the rest. */
const REQUEST_BYTES = 15 * 1024 * 1024
const REQUEST_KEYS = 10_000
const REQUEST_TYPES = 100

/** The size up to which waiting turns are merged: a proxy may have a limit of its own, often 1 MiB. */
const MERGED_BYTES = 512 * 1024
const MERGED_KEYS = 5_000

/** The most that waits in an outage: some ten thousand sessions. More is refused, which bounds the bot's memory. */
const WAITING_BYTES = 64 * 1024 * 1024

/** Writes that are sent together, with their callers. */
export interface Batch {
  readonly keys: StoredKeys
  creds: string | undefined
  bytes: number
  count: number
  /** True once its requests may have been made, so that nothing can be added. */
  isClosed: boolean
  /** True if it stands for the whole state, in place of its keys and creds. */
  readonly whole: boolean
  /** True if it clears first. */
  clears: boolean
  readonly callers: Array<{ resolve: () => void; reject: (error: Error) => void }>
}

export interface Sender {
  /** Returns the requests that write a batch; only a whole state may need several. */
  requestsOf(batch: Batch): Promise<NumberedWrite[]>
  /** Sends a request. Returns false, or throws KeystoreUnavailable after a failure, if the batch's turn begins again. */
  send(request: NumberedWrite): Promise<boolean>
  /** The service refused a write for good, so that the queue has ended. */
  ended(error: Error): void
  /** The bytes of a value in a request. */
  readonly bytesOf: BytesOf
}

export class WriteQueue {
  waitingBytes = 0
  retries = 0
  acknowledged = 0
  lastError: string | undefined
  /** The writes of this turn of the event loop. */
  #turn: Batch | undefined
  #batches: Batch[] = []
  /** The requests of the first batch that aren't acknowledged yet. */
  #requests: NumberedWrite[] | undefined
  #running: Promise<void> | undefined
  #failure: Error | undefined
  #closed: KeystoreError | undefined
  #closeAt = Infinity

  constructor(private readonly sender: Sender) {}

  get waiting(): number {
    return this.#all().reduce((sum, { callers }) => sum + callers.length, 0)
  }

  /** The error that ended the queue. */
  get failure(): Error | undefined {
    return this.#failure
  }

  /** Throws if the queue can't accept this write; changes nothing. */
  check(keys: StoredKeys, creds?: string): void {
    const refusal = this.#failure ?? this.#closed
    if (refusal) throw refusal
    const { bytes, count } = growth(this.#turn, keys, creds, this.sender.bytesOf)
    const turn = { bytes: (this.#turn?.bytes ?? 0) + bytes, count: (this.#turn?.count ?? 0) + count }
    const types = new Set([...(this.#turn?.keys.keys() ?? []), ...keys.keys()]).size
    if (turn.bytes > REQUEST_BYTES || turn.count > REQUEST_KEYS || types > REQUEST_TYPES) {
      throw new KeystoreError(
        `${turn.count} keys of ${types} types with ${turn.bytes} bytes in one turn of the event loop: at most ` +
          `${REQUEST_KEYS} keys, ${REQUEST_TYPES} types and ${REQUEST_BYTES} bytes are written as one; write them in several turns`
      )
    }
    if (this.waitingBytes + bytes > WAITING_BYTES) {
      throw new KeystoreUnavailable(
        `${this.waiting} writes wait for the service, and no more are accepted: ${this.lastError ?? 'it is slow'}`
      )
    }
  }

  /** Queues a write, and resolves when it is durable. Rejects if the queue ends or is closed before. */
  add(keys: StoredKeys, creds?: string): Promise<void> {
    const batch = this.#batchWith(keys, creds) ?? this.#addToTurn(keys, creds)
    return new Promise((resolve, reject) => batch.callers.push({ resolve, reject }))
  }

  /** Queues a clear of all keys, as a call of its own between the writes before and after it. */
  clear(): Promise<void> {
    this.check(new Map())
    this.#endTurn()
    const batch = newBatch()
    batch.clears = batch.isClosed = true
    this.#batches.push(batch)
    this.#start()
    return new Promise((resolve, reject) => batch.callers.push({ resolve, reject }))
  }

  /** Accepts no more writes, and resolves when all are saved. Rejects if they aren't within `withinMs`, or were refused. */
  async close(reason: KeystoreError, withinMs: number): Promise<void> {
    this.#closeAt = Date.now() + withinMs
    this.#closed = reason
    this.#endTurn()
    await this.#running
    if (this.#failure) throw this.#failure
    if (this.waiting > 0)
      throw new KeystoreUnavailable(`${this.waiting} writes aren't saved: ${this.lastError ?? 'no answer yet'}`)
  }

  /** Accepts and sends no more: rejects every waiting and every later write with this error. */
  end(error: Error): void {
    if (this.#failure) return
    this.#failure = error
    this.lastError = error.message
    this.#reject(error)
    this.#turn = this.#requests = undefined
    this.#batches = []
    this.waitingBytes = 0
    this.sender.ended(error)
  }

  /** Writes the whole state next, in place of all that waits. Resolves when it is durable. */
  writeWhole(): Promise<void> {
    this.#endTurn()
    const whole = newBatch(true)
    for (const batch of this.#batches) {
      merge(whole, batch, this.sender.bytesOf)
      whole.callers.push(...batch.callers)
      whole.clears ||= batch.clears
    }
    whole.bytes = this.waitingBytes
    whole.isClosed = true
    this.#batches = [whole]
    this.#requests = undefined
    this.#start()
    return new Promise((resolve, reject) => whole.callers.push({ resolve, reject }))
  }

  #all(): Batch[] {
    return this.#turn ? [...this.#batches, this.#turn] : this.#batches
  }

  /** Returns the waiting batch after which the store has exactly these values; undefined if there is none. */
  #batchWith(keys: StoredKeys, creds: string | undefined): Batch | undefined {
    const all = this.#all()
    const batches = all.slice(all.findLastIndex(({ clears }) => clears) + 1)
    let last = -1
    const isIn = (has: (batch: Batch) => boolean, isSame: (batch: Batch) => boolean): boolean => {
      const at = batches.findLastIndex(has)
      last = Math.max(last, at)
      return at >= 0 && isSame(batches[at]!)
    }
    if (creds !== undefined && !isIn(batch => batch.creds !== undefined, batch => batch.creds === creds)) return undefined
    for (const [type, byId] of keys) {
      for (const [id, json] of byId) {
        const has = ({ keys }: Batch): boolean => keys.get(type)?.has(id) ?? false
        if (!isIn(has, ({ keys }) => keys.get(type)!.get(id) === json)) return undefined
      }
    }
    return batches[last]
  }

  #addToTurn(keys: StoredKeys, creds: string | undefined): Batch {
    if (!this.#turn) {
      const turn = (this.#turn = newBatch())
      // Baileys writes creds and the keys that they count within one turn of the event loop: wait for the end of it.
      setImmediate(() => this.#turn === turn && this.#endTurn())
    }
    this.waitingBytes += merge(this.#turn, { keys, creds }, this.sender.bytesOf)
    return this.#turn
  }

  #endTurn(): void {
    const turn = this.#turn
    if (!turn) return
    this.#turn = undefined
    const last = this.#batches.at(-1)
    if (last && !last.isClosed && last.bytes + turn.bytes <= MERGED_BYTES && last.count + turn.count <= MERGED_KEYS) {
      this.waitingBytes += merge(last, turn, this.sender.bytesOf) - turn.bytes
      last.callers.push(...turn.callers)
    } else {
      this.#batches.push(turn)
    }
    this.#start()
  }

  #start(): void {
    this.#running ??= this.#run()
  }

  /** Sends until nothing waits. The end is noted in the same step as the look that found nothing, so that no start is lost. */
  async #run(): Promise<void> {
    try {
      for (let failures = 0, batch; (batch = this.#batches[0]); ) {
        try {
          await this.#send(batch)
          failures = 0
          this.lastError = undefined
        } catch (error) {
          if (!(error instanceof KeystoreUnavailable)) return this.end(error as Error)
          if (this.#failure) return
          this.lastError = error.message
          this.retries += 1
          failures += 1
          const delayMs = backoffMs(failures, error.retryAfterMs)
          if (Date.now() + delayMs > this.#closeAt) return this.#reject(error)
          await sleep(delayMs)
        }
      }
    } finally {
      this.#running = undefined
    }
  }

  /** Sends a batch. It may have become part of another one meanwhile, or have been rejected. */
  async #send(batch: Batch): Promise<void> {
    batch.isClosed = true
    if (!this.#requests) {
      const made = await this.sender.requestsOf(batch)
      if (this.#batches[0] !== batch) return
      this.#requests = made
    }
    const requests = this.#requests
    for (let request; (request = requests[0]); requests.shift()) {
      const isSaved = await this.sender.send(request)
      if (!isSaved || this.#batches[0] !== batch) return
    }
    this.#requests = undefined
    this.#batches.shift()
    this.waitingBytes -= batch.bytes
    this.acknowledged += batch.callers.length
    for (const { resolve } of batch.callers) resolve()
  }

  #reject(error: Error): void {
    for (const { callers } of this.#all()) for (const { reject } of callers) reject(error)
  }
}

/** Divides keys into parts that fit into one request each. */
export function partsOf(keys: StoredKeys, bytesOf: BytesOf): StoredKeys[] {
  const parts: Batch[] = []
  let part: Batch | undefined
  for (const [type, byId] of keys) {
    for (const [id, json] of byId) {
      if (!part || part.count === REQUEST_KEYS || part.bytes + bytesOfKey(type, id, json, bytesOf) > REQUEST_BYTES)
        parts.push((part = newBatch()))
      merge(part, { keys: new Map([[type, new Map([[id, json]])]]), creds: undefined }, bytesOf)
    }
  }
  return parts.map(({ keys }) => keys)
}

function newBatch(whole = false): Batch {
  return { keys: new Map(), creds: undefined, bytes: 0, count: 0, isClosed: false, whole, clears: false, callers: [] }
}

/** Adds a write to a batch, whose values it replaces. Returns the bytes by which the batch has grown. */
function merge(batch: Batch, { keys, creds }: Pick<Batch, 'keys' | 'creds'>, bytesOf: BytesOf): number {
  const { bytes, count } = growth(batch, keys, creds, bytesOf)
  batch.bytes += bytes
  batch.count += count
  batch.creds = creds ?? batch.creds
  for (const [type, byId] of keys) {
    const stored = ofType(batch.keys, type)
    for (const [id, json] of byId) stored.set(id, json)
  }
  return bytes
}

/** Returns the bytes and keys by which a batch would grow. */
function growth(
  batch: Batch | undefined,
  keys: StoredKeys,
  creds: string | undefined,
  bytesOf: BytesOf
): { bytes: number; count: number } {
  let count = countOf(keys)
  let bytes = creds === undefined ? 0 : bytesOf('', creds) - (batch?.creds === undefined ? 0 : bytesOf('', batch.creds))
  for (const [type, byId] of keys) {
    const stored = batch?.keys.get(type)
    for (const [id, json] of byId) {
      bytes += bytesOfKey(type, id, json, bytesOf)
      const former = stored?.get(id)
      if (former === undefined) continue
      bytes -= bytesOfKey(type, id, former, bytesOf)
      count -= 1
    }
  }
  return { bytes, count }
}
