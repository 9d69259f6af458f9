/**
 * Gathers the writes of several accounts into one call.
 *
 * Each account has one write under way at most. While all connections are busy, the writes of other accounts wait here, and
 * the next free connection takes all of them.
 */
import type { NumberedWrite } from './transport.js'
import { bytesOf, bytesOfKeys, countOf } from './values.js'

/** The limits of one call. */
const MOST_WRITES = 200
const MOST_KEYS = 5_000
const MOST_BYTES = 8 * 1024 * 1024

export interface WaitingWrite {
  readonly company: string
  readonly write: NumberedWrite
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class Batches {
  /** The number of accounts. One alone has nobody to wait for. */
  accounts = 0
  #waiting: WaitingWrite[] = []
  #calls = 0
  #isScheduled = false

  /** `send` settles each write of a batch. If it throws, the writes that aren't settled get its error. */
  constructor(
    private readonly mostCalls: number,
    private readonly send: (batch: WaitingWrite[]) => Promise<void>
  ) {}

  add(company: string, write: NumberedWrite): Promise<void> {
    const written = new Promise<void>((resolve, reject) => this.#waiting.push({ company, write, resolve, reject }))
    if (this.accounts < 2) {
      this.#next()
    } else if (!this.#isScheduled && this.#calls < this.mostCalls) {
      this.#isScheduled = true
      setImmediate(() => {
        this.#isScheduled = false
        this.#next()
      })
    }
    return written
  }

  #next(): void {
    while (this.#waiting.length > 0 && this.#calls < this.mostCalls) {
      const batch = this.#taken()
      this.#calls += 1
      void this.send(batch)
        .catch((error: unknown) => batch.forEach(({ reject }) => reject(error)))
        .finally(() => {
          this.#calls -= 1
          this.#next()
        })
    }
  }

  #taken(): WaitingWrite[] {
    if (this.#waiting.length === 1) return this.#waiting.splice(0)
    let keys = 0
    let bytes = 0
    const end = this.#waiting.findIndex(({ write }, index) => {
      keys += countOf(write.keys)
      bytes += bytesOfKeys(write.keys) + (write.creds === undefined ? 0 : bytesOf(write.creds))
      return index > 0 && (index === MOST_WRITES || keys > MOST_KEYS || bytes > MOST_BYTES)
    })
    const batch = this.#waiting.splice(0, end < 0 ? this.#waiting.length : end)
    return batch.sort((a, b) => (a.company < b.company ? -1 : 1))
  }
}
