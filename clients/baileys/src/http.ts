/**
 * The store over HTTP: sends requests to the service, and returns its answers or throws typed errors.
 *
 * Only the service's own answer counts: the status and content that the protocol says, or a problem of its own type. Any
 * other answer comes from something in between, a proxy for example, and means that the service is away.
 *
 * It uses Node's own `http`, whose requests take half of the time of `fetch`. Nothing is retried here.
 */
import * as http from 'node:http'
import * as https from 'node:https'
import { gunzip } from 'node:zlib'

import { Batches, type WaitingWrite } from './batches.js'
import {
  KeystoreError,
  KeystoreLeaseHeld,
  KeystoreLeaseLost,
  KeystoreRefused,
  KeystoreUnavailable,
  KeystoreWentBack
} from './errors.js'
import {
  ANSWER_TIMEOUT_MS,
  type KeyNames,
  type LeaseAnswer,
  type LeaseRequest,
  type Memory,
  type NumberedWrite,
  type State,
  type Transport,
  type WriteNumber
} from './transport.js'
import { asReceived, asSent, keysAsJson, type Value } from './values.js'

const RETRYABLE_STATUSES = new Set([408, 425, 429])
const MAX_RETRY_AFTER_MS = 30_000
const TYPE_PREFIX = 'urn:signal-keystore:'
/** An idle connection is closed before a proxy's or the service's own limit. */
const IDLE_MS = 4_000

interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly path: string
  /** JSON. */
  readonly body?: string
  readonly number?: WriteNumber | undefined
  readonly acknowledged?: number
}

interface Response {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly text: string
}

interface StateAnswer extends WriteNumber {
  creds: unknown
  keys: Record<string, Record<string, unknown>>
}

interface Problem {
  type: string
  status: number
  detail: string
  holder: string
  expires_at: string
}

export class HttpTransport implements Transport {
  requests = 0
  readonly #base: string
  readonly #authorization: string
  readonly #agent: http.Agent
  readonly #send: typeof http.request
  readonly #isSecure: boolean
  readonly #batches: Batches

  constructor(url: string, token: string | undefined, connections: number) {
    this.#base = checkedUrl(url)
    this.#authorization = `Bearer ${checkedToken(token)}`
    this.#isSecure = this.#base.startsWith('https:')
    const { Agent, request } = this.#isSecure ? https : http
    // A connection for each write under way, and some for the other requests.
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections + 4, timeout: IDLE_MS, scheduling: 'lifo' })
    this.#send = request
    this.#batches = new Batches(connections, batch => this.#writeAll(batch))
  }

  async open(company: string, request: LeaseRequest): Promise<LeaseAnswer & { state: State }> {
    const answer = await this.#lease(company, request, true)
    return { ...answer, state: stateFrom(answer.state!) }
  }

  async load(company: string): Promise<State> {
    const path = `${pathOf(company)}/state`
    return stateFrom(await this.#ask<StateAnswer>({ method: 'GET', path }, 'creds', 'keys', 'epoch', 'seq'))
  }

  write(company: string, write: NumberedWrite): Promise<void> {
    return this.#batches.add(company, write)
  }

  async clear(company: string, { number, acknowledged }: NumberedWrite): Promise<void> {
    await this.#done({ method: 'DELETE', path: `${pathOf(company)}/keys`, number, acknowledged })
  }

  lease(company: string, request: LeaseRequest): Promise<LeaseAnswer> {
    return this.#lease(company, request, false)
  }

  async release(company: string, holder: string, epoch: number): Promise<void> {
    const query = new URLSearchParams({ holder, epoch: String(epoch) })
    await this.#done({ method: 'DELETE', path: `${pathOf(company)}/lease?${query}` })
  }

  async use(company: string, keys: KeyNames): Promise<ReadonlyArray<readonly [string, string]>> {
    const body = JSON.stringify(Object.fromEntries(Array.from(keys, ([type, ids]) => [type, [...ids]])))
    const path = `${pathOf(company)}/keys/used`
    const { missing } = await this.#ask<{ missing: Record<string, string[]> }>({ method: 'POST', path, body }, 'missing')
    return Object.entries(missing).flatMap(([type, ids]) => ids.map(id => [type, id] as const))
  }

  async heartbeat(company: string, memory: Memory): Promise<void> {
    const body = JSON.stringify({
      heap_used_bytes: memory.heapUsed,
      heap_total_bytes: memory.heapTotal,
      heap_limit_bytes: memory.heapLimit,
      rss_bytes: memory.rss
    })
    await this.#done({ method: 'POST', path: `${pathOf(company)}/heartbeat`, body })
  }

  join(): void {
    this.#batches.accounts += 1
  }

  leave(): void {
    this.#batches.accounts -= 1
  }

  async close(): Promise<void> {
    this.#agent.destroy()
  }

  async #lease(company: string, request: LeaseRequest, state: boolean): Promise<LeaseAnswer & { state?: StateAnswer }> {
    const { holder, ttlS, force, epoch, acknowledged } = request
    const body = JSON.stringify({ holder, ttl_s: ttlS, epoch, force, acknowledged, ...(state ? { state } : {}) })
    const fields = state ? (['epoch', 'seq', 'state'] as const) : (['epoch', 'seq'] as const)
    return this.#ask({ method: 'POST', path: `${pathOf(company)}/lease`, body }, ...fields)
  }

  async #writeAll(batch: WaitingWrite[]): Promise<void> {
    if (batch.length === 1) {
      const { company, write, resolve } = batch[0]!
      await this.#done(requestOf(company, write))
      return resolve()
    }
    const body = `{"writes":[${batch.map(writeAsJson).join(',')}]}`
    const request = { method: 'POST', path: '/v1/writes', body } as const
    const { outcomes } = await this.#ask<{ outcomes: Array<Problem | null> }>(request, 'outcomes')
    batch.forEach(({ company, resolve, reject }, index) => {
      const problem = outcomes[index]
      if (problem === null) return resolve()
      const target = `${request.method} ${this.#base}${request.path} for ${company}`
      const text = JSON.stringify(problem ?? {})
      reject(errorFrom(target, { status: problem?.status ?? 0, retryAfter: undefined, text }))
    })
  }

  /** Sends a request whose answer has no content. */
  async #done(request: HttpRequest): Promise<void> {
    await this.#exchange(request, 204)
  }

  /** Sends a request, and returns its answer, a JSON object with these fields. */
  async #ask<T extends object>(request: HttpRequest, ...fields: ReadonlyArray<keyof T & string>): Promise<T> {
    const text = await this.#exchange(request, 200)
    const answer = objectIn<T>(text)
    const missing = fields.find(field => answer[field] === undefined)
    if (missing === undefined) return answer as T
    throw new KeystoreUnavailable(`${this.#target(request)}: the answer isn't the service's: it has no "${missing}"`)
  }

  async #exchange(request: HttpRequest, expected: number): Promise<string> {
    this.requests += 1
    let response: Response
    try {
      response = await this.#answer(request)
    } catch (error) {
      throw new KeystoreUnavailable(`${this.#target(request)}: no answer (${reason(error)}); is the service running there?`)
    }
    if (response.status === expected) return response.text
    throw errorFrom(this.#target(request), response)
  }

  #answer({ method, path, body, number, acknowledged }: HttpRequest): Promise<Response> {
    const headers: http.OutgoingHttpHeaders = { authorization: this.#authorization }
    if (this.#isSecure) headers['accept-encoding'] = 'gzip'
    if (body !== undefined) {
      headers['content-type'] = 'application/json'
      headers['content-length'] = Buffer.byteLength(body)
    }
    if (number !== undefined) {
      headers['keystore-epoch'] = number.epoch
      headers['keystore-seq'] = number.seq
      headers['keystore-acknowledged'] = acknowledged
    }
    return new Promise((resolve, reject) => {
      const request = this.#send(this.#base + path, { method, headers, agent: this.#agent }, response => {
        textOf(response).then(
          text => {
            clearTimeout(timer)
            resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], text })
          },
          (error: unknown) => request.destroy(error as Error)
        )
      })
      const timer = setTimeout(() => {
        request.destroy(new Error(`waited ${ANSWER_TIMEOUT_MS / 1000} s`))
      }, ANSWER_TIMEOUT_MS)
      request.on('error', error => {
        clearTimeout(timer)
        reject(error)
      })
      request.end(body)
    })
  }

  #target({ method, path }: HttpRequest): string {
    return `${method} ${this.#base}${path}`
  }
}

function pathOf(company: string): string {
  return `/v1/companies/${encodeURIComponent(company)}`
}

function requestOf(company: string, { keys, creds, ...numbers }: NumberedWrite): HttpRequest {
  const path = pathOf(company)
  if (creds === undefined) return { method: 'POST', path: `${path}/keys`, body: keysAsJson(keys), ...numbers }
  if (keys.size === 0) return { method: 'PUT', path: `${path}/creds`, body: asSent(creds), ...numbers }
  const body = `{"creds":${asSent(creds)},"keys":${keysAsJson(keys)}}`
  return { method: 'POST', path: `${path}/state`, body, ...numbers }
}

function writeAsJson({ company, write: { keys, creds, number, acknowledged } }: WaitingWrite): string {
  const numbers = number === undefined ? '' : `"epoch":${number.epoch},"seq":${number.seq},"acknowledged":${acknowledged},`
  return `{"company":"${company}",${numbers}"creds":${creds === undefined ? 'null' : asSent(creds)},"keys":${keysAsJson(keys)}}`
}

function stateFrom({ creds, keys, epoch, seq }: StateAnswer): State {
  const received = new Map<string, Map<string, Value>>()
  for (const [type, byId] of Object.entries(keys)) {
    const values = new Map<string, Value>()
    for (const id in byId) values.set(id, asReceived(byId[id]))
    received.set(type, values)
  }
  return { creds: creds === null ? undefined : asReceived(creds), keys: received, epoch, seq }
}

/** Reads a response. (Events take a tenth of the time of `for await`.) */
function textOf(response: http.IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('error', reject)
    response.on('aborted', () => reject(new Error('the answer broke off')))
    response.on('end', () => {
      const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
      if (response.headers['content-encoding'] !== 'gzip') return resolve(body.toString())
      gunzip(body, (error, text) => (error ? reject(error) : resolve(text.toString())))
    })
  })
}

function errorFrom(target: string, { status, retryAfter, text }: Response): KeystoreError {
  const { type, detail, holder, expires_at } = objectIn<Problem>(text)
  const retryAfterMs = Number(retryAfter ?? 0) * 1000 || 0
  const inBounds = Math.min(MAX_RETRY_AFTER_MS, Math.max(0, retryAfterMs))
  if (!String(type).startsWith(TYPE_PREFIX)) {
    const hint = status === 413 ? '; raise its limit of a body to 16 MiB' : ''
    return new KeystoreUnavailable(`${target}: ${status}, which isn't the service's: a proxy's answer?${hint}`, inBounds)
  }
  const slug = String(type).slice(TYPE_PREFIX.length)
  const message = `${target}: ${status} ${slug}${detail ? `: ${detail}` : ''}`
  if (slug === 'lease-lost') return new KeystoreLeaseLost(message)
  if (slug === 'went-back') return new KeystoreWentBack(message)
  if (slug === 'lease-held') {
    return new KeystoreLeaseHeld(message, holder ?? 'unknown', new Date(expires_at ?? Date.now()))
  }
  if (status >= 500 || RETRYABLE_STATUSES.has(status)) return new KeystoreUnavailable(message, inBounds)
  return new KeystoreRefused(message, status, slug)
}

/** The JSON object that a text is, or an empty one: a proxy's page isn't JSON. */
function objectIn<T extends object>(text: string): Partial<T> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : {}
  } catch {
    return {}
  }
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  return String((error as { code?: unknown }).code ?? error.message)
}

function checkedUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (!parsed || !['http:', 'https:'].includes(parsed.protocol) || parsed.username || parsed.password) {
    throw new KeystoreError(
      'url: expected http(s)://host:port of the service, without a user or password in it, or postgresql://…'
    )
  }
  return `${parsed.origin}${parsed.pathname.replace(/\/+$/, '')}`
}

function checkedToken(token: string | undefined): string {
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
    throw new KeystoreError('token: expected the whole token that `python run.py token create` printed')
  }
  return token
}
