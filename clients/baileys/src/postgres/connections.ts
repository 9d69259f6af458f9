/**
 * Connections to PostgreSQL, through the package `pg`. A call waits for a free one, and has a time limit.
 *
 * On a connection to the server itself each statement is prepared once. A pooler in between has another process id than
 * the server; there nothing is prepared, because the next transaction may reach another server's session.
 */
import { KeystoreError, KeystoreUnavailable } from '../errors.js'
import { ANSWER_TIMEOUT_MS } from '../transport.js'
import type { Address, Host } from './address.js'

export type Row = unknown[]

/** What this module uses of a client of `pg`. */
interface Client {
  readonly processID: number | null
  connect(): Promise<unknown>
  query(query: object): Promise<{ rows: Row[] }>
  end(): Promise<void>
  on(event: 'error', listener: (error: Error) => void): unknown
  ref(): void
  unref(): void
}

interface Slot {
  client: Client | undefined
  /** Undefined until it is known whether statements can be prepared. */
  prepares: boolean | undefined
}

/** The server's errors that mean that another connection may succeed. */
const NEW_CONNECTION = /^(?:08|57P|25006|26000)/

export class Connections {
  calls = 0
  readonly #slots: Slot[]
  readonly #free: Slot[]
  readonly #waiting: Array<(slot: Slot) => void> = []
  /** The host that answered last. */
  #host = 0
  readonly #plain = new Set<Host>()
  #isClosed = false

  constructor(
    private readonly address: Address,
    connections: number
  ) {
    this.#slots = Array.from({ length: connections }, () => ({ client: undefined, prepares: undefined }))
    this.#free = [...this.#slots]
  }

  /** Calls a function by its name. Throws `pg`'s errors, and KeystoreUnavailable without a connection or an answer. */
  async call(name: string, columns: string, values: readonly unknown[]): Promise<Row[]> {
    this.calls += 1
    const slot = this.#free.pop() ?? (await new Promise<Slot>(resolve => this.#waiting.push(resolve)))
    try {
      this.#requireOpen()
      slot.client ??= await this.#connected(slot)
      this.#requireOpen() // While it connected, `close` had nothing to end.
      const text = `SELECT ${columns} ${name}(${values.map((_, index) => `$${index + 1}`).join(',')})`
      slot.client.ref()
      return await this.#answer(slot, { text, values, rowMode: 'array', ...(slot.prepares ? { name } : {}) })
    } catch (error) {
      const code = codeOf(error)
      if (code === undefined || NEW_CONNECTION.test(code)) this.#discard(slot)
      throw error
    } finally {
      // The caller has its answer already when the connection is looked at.
      if (slot.client && slot.prepares === undefined) void this.#findPooler(slot).then(() => this.#release(slot))
      else this.#release(slot)
    }
  }

  #requireOpen(): void {
    if (this.#isClosed) throw new KeystoreUnavailable(`${this.address.name}: the connections are closed`)
  }

  #release(slot: Slot): void {
    slot.client?.unref()
    const next = this.#waiting.shift()
    if (next) next(slot)
    else this.#free.push(slot)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all(
      this.#slots.map(({ client }) => {
        client?.ref()
        return client?.end().catch(() => {})
      })
    )
  }

  async #connected(slot: Slot): Promise<Client> {
    const { hosts } = this.address
    let failure: unknown
    for (let tries = 0; tries < hosts.length; tries += 1) {
      try {
        return await this.#opened(slot, hosts[this.#host]!)
      } catch (error) {
        this.#host = (this.#host + 1) % hosts.length
        if (error instanceof KeystoreError && !(error instanceof KeystoreUnavailable)) throw error
        failure = error
        // Without a code of SQL it isn't the server's answer; 08, 53, 57 and XX come from one that is busy, or a pooler.
        if (codeOf(error) !== undefined && !/^(?:08|53|57|XX)/.test(codeOf(error)!)) throw error
      }
    }
    throw new KeystoreUnavailable(`${this.address.name}: no connection (${reason(failure)}); is the database running there?`)
  }

  async #opened(slot: Slot, host: Host): Promise<Client> {
    const { tls } = host
    const isPlain = this.#plain.has(host) || tls.options === false
    const client = await newClient({
      host: host.host,
      port: host.port,
      user: this.address.user,
      password: this.address.password,
      database: this.address.database,
      options: this.address.options,
      connectionTimeoutMillis: this.address.connectTimeoutMs,
      keepAlive: true,
      enableChannelBinding: true,
      fallback_application_name: 'signal-keystore-baileys',
      ssl: isPlain ? false : tls.options
    })
    client.on('error', () => this.#forget(slot, client))
    try {
      await client.connect()
    } catch (error) {
      if (!isPlain && tls.prefer && String(error).includes('does not support SSL')) {
        this.#plain.add(host)
        return this.#opened(slot, host)
      }
      throw error
    }
    slot.prepares = undefined
    return client
  }

  async #answer(slot: Slot, query: object): Promise<Row[]> {
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        for (const idle of this.#free) this.#discard(idle) // Without an answer here, they may be lost too.
        reject(new KeystoreUnavailable(`${this.address.name}: no answer within ${ANSWER_TIMEOUT_MS / 1000} s`))
      }, ANSWER_TIMEOUT_MS)
    })
    try {
      return (await Promise.race([slot.client!.query(query), deadline])).rows
    } finally {
      clearTimeout(timer)
    }
  }

  async #findPooler(slot: Slot): Promise<void> {
    const { client } = slot
    try {
      const [row] = await this.#answer(slot, { text: 'SELECT pg_backend_pid()', rowMode: 'array' })
      slot.prepares = client === slot.client && row?.[0] === client?.processID
    } catch {
      this.#discard(slot) // The call before it has its answer.
    }
  }

  #forget(slot: Slot, client: Client): void {
    if (slot.client === client) slot.client = undefined
  }

  /** Ends a connection. One with a call under way is cut off. */
  #discard(slot: Slot): void {
    slot.client?.end().catch(() => {})
    slot.client = undefined
  }
}

/** The code of an error that the server sent; undefined for others. */
export function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code
  const isServers = typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && 'severity' in (error as object)
  return isServers ? code : undefined
}

/** Why a connection failed, without an address or a login. */
export function reason(error: unknown): string {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown }
  return String(code ?? message ?? 'unknown')
}

async function newClient(config: object): Promise<Client> {
  let pg: { default: { Client: new (config: object) => Client } }
  try {
    const name = 'pg'
    pg = await import(name)
  } catch {
    throw new KeystoreError('url: a bot straight on PostgreSQL needs the package pg, version 8.11 or newer: npm install pg')
  }
  return new pg.default.Client(config)
}
