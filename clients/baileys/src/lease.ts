/**
 * The account's lease. While it is held, the store accepts only writes that carry its epoch.
 *
 * Two processes that run one account corrupt its ratchets. The holder's name is the same after a restart, so a crashed
 * bot gets its lease back at once. It has a new epoch then, which the requests of the dead process don't carry.
 */
import { randomBytes } from 'node:crypto'

import { backoffMs, sleep } from './backoff.js'
import type { Connection } from './connection.js'
import { KeystoreLeaseHeld, KeystoreLeaseLost } from './errors.js'

const RENEWALS_PER_LIFE = 3
/** The shortest lease that the service grants. */
const PROBE_TTL_S = 5
const MAX_POLL_MS = 1_000

export interface LeaseOptions {
  readonly holder: string
  readonly ttlS: number
  readonly force: boolean
  /** How long to wait for another holder's lease to end. */
  readonly waitMs: number
}

export class Lease {
  readonly #probeHolder: string
  #epoch = 0
  #renewing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  private constructor(
    private readonly connection: Connection,
    private readonly options: LeaseOptions,
    private readonly onLost: (error: KeystoreLeaseLost) => void
  ) {
    this.#probeHolder = `${options.holder} (again, ${randomBytes(6).toString('hex')})`
  }

  /** Takes the lease. Throws KeystoreLeaseHeld if another holder still has it after `waitMs`. */
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
        await sleep(Math.min(endsInMs, giveUpAt - Date.now(), MAX_POLL_MS))
      }
    }
    lease.#scheduleRenewal()
    return lease
  }

  get epoch(): number {
    return this.#epoch
  }

  /**
   * Renews the lease, or takes it back if it expired and nobody had it since. Waits for writes under way in the store.
   *
   * Throws KeystoreLeaseLost if another holder took it, KeystoreUnavailable if the service can't be asked.
   */
  renew(): Promise<void> {
    this.#renewing ??= this.#renew().finally(() => (this.#renewing = undefined))
    return this.#renewing
  }

  /** Stops the renewals. */
  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** Releases the lease. */
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
   * Epochs rise by one each time that a lease is taken, so the next epoch proves that nobody had it in between. This
   * asks under another holder's name first, because its own name would take the lease from a
   * successor with the same name.
   */
  async #takeBack(lost: KeystoreLeaseLost): Promise<void> {
    let probeEpoch: number
    try {
      probeEpoch = await this.#ask(this.#probeHolder, PROBE_TTL_S, {})
    } catch (error) {
      throw error instanceof KeystoreLeaseHeld ? lost : error
    }
    if (probeEpoch !== this.#epoch + 1) {
      await this.#release(this.#probeHolder, probeEpoch)
      throw lost
    }
    const epoch = await this.#ask(this.options.holder, this.options.ttlS, { force: true })
    if (epoch !== probeEpoch + 1) {
      await this.#release(this.options.holder, epoch)
      throw lost
    }
    this.#epoch = epoch
  }

  async #ask(holder: string, ttlS: number, extra: { epoch?: number; force?: boolean }): Promise<number> {
    const body = JSON.stringify({ holder, ttl_s: ttlS, ...extra })
    const answer = await this.connection.send({ method: 'POST', path: '/lease', body })
    return (JSON.parse(answer) as { epoch: number }).epoch
  }

  async #release(holder: string, epoch: number): Promise<void> {
    const query = new URLSearchParams({ holder, epoch: String(epoch) })
    await this.connection.send({ method: 'DELETE', path: `/lease?${query}` })
  }

  #scheduleRenewal(failures = 0): void {
    const regularMs = (this.options.ttlS * 1000) / RENEWALS_PER_LIFE
    const delayMs = failures > 0 ? Math.min(regularMs, backoffMs(failures)) : regularMs
    this.#timer = setTimeout(() => void this.#renewAndReschedule(failures), delayMs).unref()
  }

  async #renewAndReschedule(failures: number): Promise<void> {
    try {
      await this.renew()
      if (!this.#stopped) this.#scheduleRenewal()
    } catch (error) {
      if (error instanceof KeystoreLeaseLost) this.onLost(error)
      else if (!this.#stopped) this.#scheduleRenewal(failures + 1)
    }
  }
}
