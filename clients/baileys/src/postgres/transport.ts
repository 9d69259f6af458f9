/**
 * Straight to the store's database: calls the functions that a bot's own login may call.
 *
 * The rules (the lease, the numbers of writes, expiries, the quota) are in those functions and not here. Nobody else counts
 * the events of these writes, so they are collected here and reported with the heartbeat.
 */
import { Batches, type WaitingWrite } from '../batches.js'
import {
  KeystoreError,
  KeystoreLeaseHeld,
  KeystoreLeaseLost,
  KeystoreRefused,
  KeystoreUnavailable,
  KeystoreWentBack
} from '../errors.js'
import type {
  KeyNames,
  LeaseAnswer,
  LeaseRequest,
  Memory,
  NumberedWrite,
  State,
  Transport
} from '../transport.js'
import { SEALED } from '../sealing.js'
import { ofType, valueOf, type Value } from '../values.js'
import { readAddress, type Address } from './address.js'
import { bigints, blobs, integers, texts } from './arrays.js'
import { codeOf, Connections, type Row } from './connections.js'

/** The format of a value that isn't sealed: the first byte of each stored value. */
const PLAIN = 0
/** The format in which the database shows a sealed value that isn't the one which was written last. */
const PUT_BACK = 2
const MOST_EVENTS = 1_000

/**
 * The classes of PostgreSQL's errors that are a verdict: about the data, a rule, a right, the login, the database's name or a
 * function. Others come from a server or a pooler that is busy, starts, or has failed.
 */
const VERDICT = /^(?:KS|0A|21|22|23|28|3D|42)/

export class PostgresTransport implements Transport {
  readonly #address: Address
  readonly #connections: Connections
  readonly #batches: Batches
  /** By company and by event and type: the number of keys since the last report. */
  readonly #events = new Map<string, Map<string, number>>()

  constructor(url: string, connections: number) {
    this.#address = readAddress(url)
    this.#connections = new Connections(this.#address, connections)
    this.#batches = new Batches(connections, batch => this.#writeAll(batch))
  }

  get requests(): number {
    return this.#connections.calls
  }

  async open(company: string, { holder, ttlS, force, acknowledged }: LeaseRequest): Promise<LeaseAnswer & { state: State }> {
    const behind = await this.#isBehind(company, acknowledged)
    const rows = await this.#call(company, 'keystore_bot_open', '* FROM', [company, holder, ttlS, force ?? false])
    const [, epoch, seq, seconds, current] = /^(\d+) (\d+) ([\d.]+) (.*)$/s.exec(String(rows.shift()?.[1])) ?? []
    const until = new Date(Number(seconds) * 1000)
    const lease = this.#leaseFrom(company, holder, { holder: current, epoch, seq, until })
    return { ...lease, behind, state: stateFrom(company, rows) }
  }

  async load(company: string): Promise<State> {
    return stateFrom(company, await this.#call(company, 'keystore_bot_load', '* FROM', [company]))
  }

  write(company: string, write: NumberedWrite): Promise<void> {
    return this.#batches.add(company, write)
  }

  async clear(company: string, { number, acknowledged }: NumberedWrite): Promise<void> {
    const values = [company, true, ...(number ? [number.epoch, number.seq, acknowledged] : [null, null, null])]
    const rows = await this.#call(company, 'keystore_bot_clear', '* FROM', values)
    this.#count(company, rows.flatMap(([type, cleared]) => ['cleared', String(type), String(cleared)]))
  }

  async lease(company: string, { holder, ttlS, force, epoch, acknowledged }: LeaseRequest): Promise<LeaseAnswer> {
    const behind = await this.#isBehind(company, acknowledged)
    if (epoch === undefined) {
      const values = [company, holder, ttlS, force ?? false]
      const [row] = await this.#call(company, 'keystore_bot_take_lease', '* FROM', values)
      const [current, taken, until, seq] = row as [string, string, Date, string]
      return { ...this.#leaseFrom(company, holder, { holder: current, epoch: taken, seq, until }), behind }
    }
    const [row] = await this.#call(company, 'keystore_bot_renew_lease', '* FROM', [company, holder, epoch, ttlS])
    if (row) return { epoch, seq: Number(row[2]), behind }
    throw new KeystoreLeaseLost(
      `${this.#target(company)}: the lease with epoch ${epoch} was ended, or somebody else has written since it ran out`
    )
  }

  async release(company: string, holder: string, epoch: number): Promise<void> {
    await this.#call(company, 'keystore_bot_release_lease', '', [company, holder, epoch])
    await this.#report(company, undefined)
  }

  async use(company: string, keys: KeyNames): Promise<ReadonlyArray<readonly [string, string]>> {
    const names = Array.from(keys, ([type, ids]) => Array.from(ids, id => [type, id] as const)).flat()
    const values = [company, texts(names.map(([type]) => type)), texts(names.map(([, id]) => id))]
    const rows = await this.#call(company, 'keystore_bot_use', '* FROM', values)
    return rows.flatMap(([type, renewed, missing]) => {
      this.#count(company, ['renewed', String(type), String(renewed)])
      return ((missing ?? []) as string[]).map(id => [String(type), id] as const)
    })
  }

  async heartbeat(company: string, memory: Memory): Promise<void> {
    await this.#report(company, memory)
  }

  join(): void {
    this.#batches.accounts += 1
  }

  leave(): void {
    this.#batches.accounts -= 1
  }

  async close(): Promise<void> {
    await this.#connections.close()
  }

  async #isBehind(company: string, acknowledged: LeaseRequest['acknowledged']): Promise<boolean> {
    if (!acknowledged) return false
    const { epoch, seq } = acknowledged
    const [row] = await this.#call(company, 'keystore_bot_report_lost', '', [epoch, seq, company])
    return row?.[0] === true
  }

  #leaseFrom(company: string, wanted: string, lease: StoredLease): { epoch: number; seq: number } {
    const { holder = '', epoch, seq, until } = lease
    if (holder === wanted) return { epoch: Number(epoch), seq: Number(seq) }
    const message = `${this.#target(company)}: ${holder} has the lease until ${until.toISOString()}; wait until then, or take it with force`
    throw new KeystoreLeaseHeld(message, holder, until)
  }

  async #writeAll(batch: WaitingWrite[]): Promise<void> {
    if (batch.length === 1) {
      const { company, write, resolve } = batch[0]!
      const [row] = await this.#call(company, 'keystore_bot_write', '', writeValues(company, write))
      this.#count(company, row?.[0] as string[])
      return resolve()
    }
    const names = batch.map(({ company }) => company)
    const parts = batch.map(({ write }) => partsOf(write))
    const rows = await this.#call(`${batch.length} companies`, 'keystore_bot_write_all', '* FROM', [
      texts(names),
      integers(parts.map(({ ids }) => ids.length)),
      texts(parts.flatMap(({ types }) => types)),
      texts(parts.flatMap(({ ids }) => ids)),
      blobs(parts.flatMap(({ values }) => values)),
      integers(parts.map(({ goneIds }) => goneIds.length)),
      texts(parts.flatMap(({ goneTypes }) => goneTypes)),
      texts(parts.flatMap(({ goneIds }) => goneIds)),
      blobs(batch.map(({ write }) => stored(write.creds))),
      bigints(batch.map(({ write }) => write.number?.epoch)),
      bigints(batch.map(({ write }) => write.number?.seq)),
      bigints(batch.map(({ write }) => write.number && write.acknowledged))
    ])
    batch.forEach(({ company, resolve, reject }, index) => {
      const [events, code, message, detail] = rows[index] as [string[] | null, string | null, string, string]
      if (code !== null) return reject(this.#errorFrom(company, code, message, detail))
      this.#count(company, events ?? [])
      resolve()
    })
  }

  /** Reports the collected events. Without memory the bot is closed. Events of a failed report wait for the next. */
  async #report(company: string, memory: Memory | undefined): Promise<void> {
    const counted = this.#events.get(company)
    this.#events.delete(company)
    const events = Array.from(counted ?? []).slice(0, MOST_EVENTS).flatMap(([name, n]) => [...name.split('\n'), String(n)])
    const bytes = memory && [memory.heapUsed, memory.heapTotal, memory.heapLimit, memory.rss]
    const values = [texts(events), company, ...(bytes ?? [null, null, null, null])]
    try {
      await this.#call(company, 'keystore_bot_report', '', values)
    } catch (error) {
      this.#count(company, events)
      throw error
    }
  }

  /** Collects events: the event, the type, and the number of keys, again and again. */
  #count(company: string, events: readonly string[]): void {
    for (let at = 0; at < events.length; at += 3) {
      const counted = this.#events.get(company) ?? new Map<string, number>()
      const name = `${events[at]}\n${events[at + 1]}`
      const isCounted = events[at] !== 'rewritten' && events[at] !== 'keys' && events[at] !== 'bytes'
      if (isCounted) this.#events.set(company, counted.set(name, (counted.get(name) ?? 0) + Number(events[at + 2])))
    }
  }

  async #call(company: string, name: string, columns: string, values: readonly unknown[]): Promise<Row[]> {
    try {
      return await this.#connections.call(name, columns, values)
    } catch (error) {
      if (error instanceof KeystoreError) throw error
      const { message, detail } = error as { message?: string; detail?: string }
      throw this.#errorFrom(company, codeOf(error), message ?? 'unknown', detail)
    }
  }

  #errorFrom(company: string, code: string | undefined, message: string, detail: string | undefined): KeystoreError {
    const target = this.#target(company)
    if (code === undefined || !VERDICT.test(code)) return new KeystoreUnavailable(`${target}: ${message}`)
    if (code === 'KS007') return new KeystoreWentBack(`${target}: ${message}`)
    if (code === 'KS001') return new KeystoreLeaseLost(`${target}: nothing was written: ${leaseLost(detail)}`)
    return new KeystoreRefused(`${target}: ${message}${adviceFor(code)}`, 403, slugOf(code))
  }

  #target(company: string): string {
    return `${this.#address.name}, ${company}`
  }
}

/** A lease as the database answers it. */
interface StoredLease {
  readonly holder: string | undefined
  readonly epoch: string | undefined
  readonly seq: string | undefined
  readonly until: Date
}

interface Parts {
  readonly types: string[]
  readonly ids: string[]
  readonly values: Buffer[]
  readonly goneTypes: string[]
  readonly goneIds: string[]
}

function writeValues(company: string, write: NumberedWrite): unknown[] {
  const { types, ids, values, goneTypes, goneIds } = partsOf(write)
  const { epoch = null, seq = null } = write.number ?? {}
  return [company, texts(types), texts(ids), blobs(values), texts(goneTypes), texts(goneIds), stored(write.creds), epoch, seq, seq && write.acknowledged]
}

function partsOf({ keys }: NumberedWrite): Parts {
  const parts: Parts = { types: [], ids: [], values: [], goneTypes: [], goneIds: [] }
  for (const [type, byId] of keys) {
    for (const [id, json] of byId) {
      const value = stored(json)
      if (value === null) {
        parts.goneTypes.push(type)
        parts.goneIds.push(id)
      } else {
        parts.types.push(type)
        parts.ids.push(id)
        parts.values.push(value)
      }
    }
  }
  return parts
}

/** The stored form of a value. */
function stored(value: Value | null | undefined): Buffer | null {
  if (value === null || value === undefined) return null
  return typeof value === 'string' ? Buffer.from(`\0${value}`) : Buffer.concat([Buffer.of(PLAIN), value])
}

/** Reads the rows of a load: keys; the creds, without a type and an id; and the lease's numbers in the place of an id. */
function stateFrom(company: string, rows: readonly Row[]): State {
  const keys = new Map<string, Map<string, Value | undefined>>()
  let creds: Value | undefined
  let epoch = 0
  let seq = 0
  for (const [type, id, value] of rows) {
    if (type !== null) ofType(keys, String(type)).set(String(id), read(value as Buffer, company, String(type), String(id)))
    else if (id === null) creds = read(value as Buffer, company, 'creds') ?? unknownFormat(value as Buffer, company, 'creds')
    else [epoch, seq] = String(id).split(' ').map(Number) as [number, number]
  }
  return { creds, keys, epoch, seq }
}

/** Returns a stored value; undefined if its format isn't known, or stands for a value that was put back. */
function read(bytes: Buffer, ...name: string[]): Value | undefined {
  if (bytes[0] === SEALED) {
    throw new KeystoreRefused(
      `${name.join(' ')}: the service has sealed it, and a bot straight on the database can't open it; connect to the service over HTTP`,
      500,
      'format'
    )
  }
  return bytes[0] === PLAIN ? valueOf(bytes.subarray(1)) : undefined
}

function unknownFormat(bytes: Buffer, ...name: string[]): never {
  if (bytes[0] === PUT_BACK) {
    throw new KeystoreRefused(`${name.join(' ')}: it isn't the value that was written last: another, or an older one, stands in its place`, 500, 'format')
  }
  throw new KeystoreRefused(`${name.join(' ')}: stored in format ${bytes[0]}, which this version can't read`, 500, 'format')
}

function leaseLost(detail: string | undefined): string {
  const { holder, epoch } = JSON.parse(detail ?? '{}') as { holder?: string; epoch?: number | null }
  return epoch ? `${holder} has the lease (epoch ${epoch})` : 'the lease has run out or was ended'
}

function slugOf(code: string): string {
  return { KS002: 'quota-exceeded', KS003: 'quota-exceeded', '42501': 'forbidden' }[code] ?? (code.startsWith('28') ? 'unauthorized' : code)
}

function adviceFor(code: string): string {
  if (code.startsWith('28')) return '; `python run.py role create --company …` prints the address of a bot'
  if (code === '42883' || code === '3D000') return "; is this the store's database, and has `python run.py migrate` been run?"
  return ''
}
