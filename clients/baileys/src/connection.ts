/**
 * Sends one HTTP request to the service, and returns its answer or throws a typed error.
 *
 * Only the service's own answer counts: the status and content that the protocol says, or a problem of its own type. Any
 * other answer comes from something in between, a proxy for example, and means that the service is away.
 *
 * Node's own `fetch` keeps connections alive. Nothing is retried here; `write-queue.ts`, `lease.ts` and
 * `auth-state.ts` do that.
 */
import { KeystoreError, KeystoreLeaseHeld, KeystoreLeaseLost, KeystoreRefused, KeystoreUnavailable } from './errors.js'

/** Longer than the service waits for PostgreSQL, so that a request that timed out is no longer being written. */
const REQUEST_TIMEOUT_MS = 40_000

const RETRYABLE_STATUSES = new Set([408, 425, 429])
const MAX_RETRY_AFTER_MS = 30_000
const TYPE_PREFIX = 'urn:signal-keystore:'

/** A write's number under a lease, which makes its repetitions one write. */
export interface WriteNumber {
  readonly epoch: number
  readonly seq: number
}

export interface Request {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Below `/v1/companies/{company}`. */
  readonly path: string
  /** JSON. */
  readonly body?: string
  readonly number?: WriteNumber | undefined
}

export interface StateAnswer extends WriteNumber {
  creds: unknown
  keys: Record<string, Record<string, unknown>>
}

export interface LeaseAnswer extends WriteNumber {
  behind?: boolean
}

export interface UsedKeysAnswer {
  missing: Record<string, string[]>
}

interface Problem {
  type: string
  detail: string
  holder: string
  expires_at: string
}

export class Connection {
  requests = 0
  readonly company: string
  readonly #base: string
  readonly #authorization: string

  constructor(url: string, token: string, company: string) {
    this.company = company
    this.#base = `${checkedUrl(url)}/v1/companies/${encodeURIComponent(checkedCompany(company))}`
    this.#authorization = `Bearer ${checkedToken(token)}`
  }

  /** Sends a request whose answer has no content. */
  async send(request: Request): Promise<void> {
    await this.#exchange(request, 204)
  }

  /** Sends a request, and returns its answer, a JSON object with these fields. */
  async ask<T extends object>(request: Request, ...fields: ReadonlyArray<keyof T & string>): Promise<T> {
    const text = await this.#exchange(request, 200)
    const answer = objectIn<T>(text)
    const missing = fields.find(field => answer[field] === undefined)
    if (missing === undefined) return answer as T
    throw new KeystoreUnavailable(`${this.#target(request)}: the answer isn't the service's: it has no "${missing}"`)
  }

  async #exchange(request: Request, expected: number): Promise<string> {
    const { method, path, body, number } = request
    const headers: Record<string, string> = { authorization: this.#authorization }
    if (body !== undefined) headers['content-type'] = 'application/json'
    if (number !== undefined) {
      headers['keystore-epoch'] = String(number.epoch)
      headers['keystore-seq'] = String(number.seq)
    }
    this.requests += 1
    let response: Response
    let text: string
    try {
      response = await fetch(this.#base + path, {
        method,
        headers,
        redirect: 'manual',
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
        ...(body === undefined ? {} : { body })
      })
      text = await response.text()
    } catch (error) {
      const target = this.#target(request)
      throw new KeystoreUnavailable(`${target}: no answer (${reason(error)}); is the service running there?`)
    }
    if (response.status === expected) return text
    throw errorFrom(this.#target(request), response, text)
  }

  #target({ method, path }: Request): string {
    return `${method} ${this.#base}${path}`
  }
}

function errorFrom(target: string, response: Response, text: string): KeystoreError {
  const { status } = response
  const { type, detail, holder, expires_at } = objectIn<Problem>(text)
  const retryAfterMs = Number(response.headers.get('retry-after') ?? 0) * 1000 || 0
  const inBounds = Math.min(MAX_RETRY_AFTER_MS, Math.max(0, retryAfterMs))
  if (!String(type).startsWith(TYPE_PREFIX)) {
    const hint = status === 413 ? '; raise its limit of a body to 16 MiB' : ''
    return new KeystoreUnavailable(`${target}: ${status}, which isn't the service's: a proxy's answer?${hint}`, inBounds)
  }
  const slug = String(type).slice(TYPE_PREFIX.length)
  const message = `${target}: ${status} ${slug}${detail ? `: ${detail}` : ''}`
  if (slug === 'lease-lost') return new KeystoreLeaseLost(message)
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

/** The reason why `fetch` failed. Its own message is always "fetch failed"; the cause says more. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  if (error.name === 'TimeoutError') return `waited ${REQUEST_TIMEOUT_MS / 1000} s`
  const cause = error.cause as { code?: unknown; message?: unknown } | undefined
  return String(cause?.code ?? cause?.message ?? error.message)
}

function checkedUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (!parsed || !['http:', 'https:'].includes(parsed.protocol) || parsed.username || parsed.password) {
    throw new KeystoreError('url: expected http(s)://host:port of the service, without a user or password in it')
  }
  return `${parsed.origin}${parsed.pathname.replace(/\/+$/, '')}`
}

function checkedToken(token: string): string {
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
    throw new KeystoreError('token: expected the whole token that `python run.py token create` printed')
  }
  return token
}

function checkedCompany(company: string): string {
  if (typeof company !== 'string' || !/^[A-Za-z0-9_-]+$/.test(company)) {
    throw new KeystoreError('company: expected 1-64 characters of A-Z a-z 0-9 _ -')
  }
  return company
}
