/**
 * The account's lease: while it lives, the store takes writes under its epoch alone.
 *
 * Two processes that run one account corrupt its ratchets. The holder's name is the same after a restart, so that a
 * crashed bot has its lease back at once, under a new epoch that its dead predecessor's requests don't know.
 */
import { randomBytes } from 'node:crypto'

import { backoffMs, sleep } from './backoff.js'
import type { Connection } from './connection.js'
import { KeystoreLeaseHeld, KeystoreLeaseLost } from './errors.js'

const RENEWALS_PER_LIFE = 3
/** The shortest that the service gives. */
const PROBE_TTL_S = 5
const LONGEST_WAIT_MS = 1_000

export interface LeaseOptions {
  readonly holder: string
  readonly ttlS: number
  readonly force: boolean
  /** How long to wait for another holder's lease to end. */
  readonly waitMs: number
}

export class Lease {
  readonly #probe: string
  #epoch = 0
  #renewing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  private constructor(
    private readonly connection: Connection,
    private readonly options: LeaseOptions,
    private readonly onLost: (error: KeystoreLeaseLost) => void
  ) {
    this.#probe = `${options.holder} (again, ${randomBytes(6).toString('hex')})`
  }

  /** Takes the lease. Throws KeystoreLeaseHeld when another holder's still lives after `waitMs`. */
  static async take(
    connection: Connection,
    options: LeaseOptions,
    onLost: (error: KeystoreLeaseLost) => void
  ): Promise<Lease> {
    const lease = new Lease(connection, options, onLost)
    const giveUpAt = Date.now() + options.waitMs
    for (;;) {
      try {
        lease.#epoch = await lease.#ask(options.holder, options.ttlS, options.force ? { force: true } : {})
        break
      } catch (error) {
        if (!(error instanceof KeystoreLeaseHeld) || Date.now() >= giveUpAt) throw error
        const endsInMs = Math.max(100, error.expiresAt.getTime() - Date.now())
        await sleep(Math.min(endsInMs, giveUpAt - Date.now(), LONGEST_WAIT_MS))
      }
    }
    lease.#renewLater()
    return lease
  }

  get epoch(): number {
    return this.#epoch
  }

  /**
   * Renews the lease; takes it back when it ran out and nobody had it since. Waits for writes under way in the store.
   *
   * Throws KeystoreLeaseLost when it has passed on, KeystoreUnavailable when that can't be told.
   */
  renew(): Promise<void> {
    this.#renewing ??= this.#renew().finally(() => (this.#renewing = undefined))
    return this.#renewing
  }

  /** Renews no more. */
  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** Gives the lease back. */
  async release(): Promise<void> {
    this.stop()
    await this.#renewing?.catch(() => {})
    await this.#release(this.options.holder, this.#epoch)
  }

  async #renew(): Promise<void> {
    try {
      await this.#ask(this.options.holder, this.options.ttlS, { epoch: this.#epoch })
    } catch (error) {
      if (!(error instanceof KeystoreLeaseLost)) throw error
      await this.#takeBack(error)
    }
  }

  /**
   * Epochs rise by one each time that a lease is taken: the next one means that nobody had it between. Asked for under
   * another name first, since under its own a process would take it from a successor of the same name.
   */
  async #takeBack(lost: KeystoreLeaseLost): Promise<void> {
    let probe: number
    try {
      probe = await this.#ask(this.#probe, PROBE_TTL_S, {})
    } catch (error) {
      throw error instanceof KeystoreLeaseHeld ? lost : error
    }
    if (probe !== this.#epoch + 1) {
      await this.#release(this.#probe, probe)
      throw lost
    }
    const epoch = await this.#ask(this.options.holder, this.options.ttlS, { force: true })
    if (epoch !== probe + 1) {
      await this.#release(this.options.holder, epoch)
      throw lost
    }
    this.#epoch = epoch
  }

  async #ask(holder: string, ttlS: number, more: { epoch?: number; force?: boolean }): Promise<number> {
    const body = JSON.stringify({ holder, ttl_s: ttlS, ...more })
    const answer = await this.connection.send({ method: 'POST', path: '/lease', body })
    return (JSON.parse(answer) as { epoch: number }).epoch
  }

  async #release(holder: string, epoch: number): Promise<void> {
    const query = new URLSearchParams({ holder, epoch: String(epoch) })
    await this.connection.send({ method: 'DELETE', path: `/lease?${query}` })
  }

  #renewLater(failures = 0): void {
    const usuallyMs = (this.options.ttlS * 1000) / RENEWALS_PER_LIFE
    const afterMs = failures > 0 ? Math.min(usuallyMs, backoffMs(failures)) : usuallyMs
    this.#timer = setTimeout(() => void this.#renewNow(failures), afterMs).unref()
  }

  async #renewNow(failures: number): Promise<void> {
    try {
      await this.renew()
      if (!this.#stopped) this.#renewLater()
    } catch (error) {
      if (error instanceof KeystoreLeaseLost) this.onLost(error)
      else if (!this.#stopped) this.#renewLater(failures + 1)
    }
  }
}
