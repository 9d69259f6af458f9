/**
 * The account's lease, and the numbers of the writes under it. While it is held, the store accepts only writes that carry
 * its epoch.
 *
 * Two processes that run one account corrupt its ratchets. The holder's name ends with the process's id, so a process
 * that lives isn't taken for the one that is starting. A process of this machine that is dead has no use for its lease:
 * its successor takes it at once.
 */
import { hostname } from 'node:os'

import { backoffMs, sleep } from './backoff.js'
import { KeystoreLeaseHeld, KeystoreLeaseLost, KeystoreUnavailable } from './errors.js'
import type { LeaseAnswer, LeaseRequest, State, Transport, WriteNumber } from './transport.js'

const RENEWALS_PER_LIFE = 3
const MAX_POLL_MS = 1_000

export interface LeaseOptions {
  readonly instance: string | undefined
  readonly ttlS: number
  readonly force: boolean
  /** How long to wait for another holder's lease to end. */
  readonly waitMs: number
}

export interface LeaseEvents {
  /** Somebody else has written, or the store refuses this bot. */
  readonly ended: (error: Error) => void
  /** The database lacks a write that it had acknowledged. */
  readonly wentBack: () => void
}

export class Lease {
  /** The holder's name up to the process's id. */
  readonly #name: string
  readonly #holder: string
  #epoch = 0
  #seq = 0
  #acknowledged: WriteNumber | undefined
  #isConfirmed = true
  #renewing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  private constructor(
    private readonly transport: Transport,
    private readonly company: string,
    private readonly options: LeaseOptions,
    private readonly events: LeaseEvents
  ) {
    const { instance } = options
    this.#name = `${hostname()}${instance === undefined ? '' : `/${instance}`}#`
    this.#holder = `${this.#name}${process.pid}`
  }

  /**
   * Takes the lease, and returns it with the state that was stored then: no write of an older holder lands any more. Throws
   * KeystoreLeaseHeld if another holder that may be alive still has it after `waitMs`.
   */
  static async take(
    transport: Transport,
    company: string,
    options: LeaseOptions,
    events: LeaseEvents
  ): Promise<{ lease: Lease; state: State }> {
    const lease = new Lease(transport, company, options, events)
    const giveUpAt = Date.now() + options.waitMs
    for (let { force } = options; ;) {
      try {
        const { epoch, state } = await transport.open(company, lease.#request({ force }))
        lease.#epoch = epoch
        lease.#scheduleRenewal()
        return { lease, state }
      } catch (error) {
        if (!(error instanceof KeystoreLeaseHeld)) throw error
        const pid = lease.#pidOf(error.holder)
        force = pid !== undefined && !isAlive(pid)
        if (force) continue
        if (Date.now() >= giveUpAt) throw pid === undefined ? error : heldBy(pid, error)
        const endsInMs = Math.max(100, error.expiresAt.getTime() - Date.now())
        await sleep(Math.min(endsInMs, giveUpAt - Date.now(), MAX_POLL_MS))
      }
    }
  }

  get epoch(): number {
    return this.#epoch
  }

  /** False while the latest renewal has no answer: if the database went back, a write now would hide that from the next. */
  get isConfirmed(): boolean {
    return this.#isConfirmed
  }

  /** Returns the number of the next write. */
  next(): WriteNumber {
    this.#seq += 1
    return { epoch: this.#epoch, seq: this.#seq }
  }

  /** Remembers the latest write that the store acknowledged. */
  acknowledge(number: WriteNumber): void {
    this.#acknowledged = number
  }

  /**
   * Renews the lease, also if it ran out and nobody else has written since.
   *
   * Throws KeystoreLeaseLost if somebody has, KeystoreUnavailable if the store can't be asked.
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
    await this.transport.release(this.company, this.#holder, this.#epoch)
  }

  async #renew(): Promise<void> {
    const shown = this.#acknowledged
    this.#isConfirmed = false
    let answer: LeaseAnswer
    try {
      answer = await this.#ask({ epoch: this.#epoch })
    } catch (error) {
      if (!(error instanceof KeystoreLeaseLost)) throw error
      answer = await this.#takeFromOlderDatabase(error)
    }
    if (answer.epoch !== this.#epoch) {
      this.#epoch = answer.epoch
      this.#seq = 0
      this.#acknowledged = undefined
    }
    this.#isConfirmed = true
    if (answer.behind || (shown && answer.seq < shown.seq)) this.events.wentBack()
  }

  /**
   * Takes the lease again if the database is older than this process's lease. It has gone back then, and the state here is
   * the newer one. A database without any lease of the company was purged, or is another one.
   */
  async #takeFromOlderDatabase(lost: KeystoreLeaseLost): Promise<LeaseAnswer> {
    const { epoch } = await this.transport.load(this.company)
    if (epoch === 0 || epoch >= this.#epoch) throw lost
    try {
      return { ...(await this.#ask({})), behind: true }
    } catch (error) {
      throw error instanceof KeystoreLeaseHeld ? lost : error
    }
  }

  #ask(extra: { epoch?: number; force?: boolean }): Promise<LeaseAnswer> {
    return this.transport.lease(this.company, this.#request(extra))
  }

  #request(extra: { epoch?: number; force?: boolean }): LeaseRequest {
    return { holder: this.#holder, ttlS: this.options.ttlS, acknowledged: this.#acknowledged, ...extra }
  }

  /** Returns the id of the process that holds the lease, if it is one of this machine and instance. */
  #pidOf(holder: string): number | undefined {
    const pid = holder.startsWith(this.#name) ? holder.slice(this.#name.length) : ''
    return /^[1-9]\d{0,9}$/.test(pid) ? Number(pid) : undefined
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
      if (!(error instanceof KeystoreUnavailable)) this.events.ended(error as Error)
      else if (!this.#stopped) this.#scheduleRenewal(failures + 1)
    }
  }
}

/** Returns true if another process of this machine has this id. */
function isAlive(pid: number): boolean {
  if (pid === process.pid) return false
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as { code?: unknown }).code === 'EPERM'
  }
}

function heldBy(pid: number, { message, holder, expiresAt }: KeystoreLeaseHeld): KeystoreLeaseHeld {
  const advice = `process ${pid} of this machine runs this account; end it, or wait for its lease with waitForLease`
  return new KeystoreLeaseHeld(`${message}; ${advice}`, holder, expiresAt)
}
