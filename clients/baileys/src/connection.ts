/**
 * Sends one HTTP request to the service, and returns its answer or throws a typed error.
 *
 * Node's own `fetch` keeps connections alive. Nothing is retried here; `write-queue.ts`, `lease.ts` and
 * `auth-state.ts` do that.
 */
import { KeystoreError, KeystoreLeaseHeld, KeystoreLeaseLost, KeystoreRefused, KeystoreUnavailable } from './errors.js'

/** Longer than the service waits for PostgreSQL, so that a request that timed out is no longer being written. */
const REQUEST_TIMEOUT_MS = 40_000

const RETRYABLE_STATUSES = new Set([408, 425, 429])
const MAX_RETRY_AFTER_MS = 30_000

export interface Request {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Below `/v1/companies/{company}`. */
  path: string
  /** JSON. */
  body?: string
  epoch?: number | undefined
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

  /** Returns the answer's body; '' if it has none. */
  async send({ method, path, body, epoch }: Request): Promise<string> {
    const headers: Record<string, string> = { authorization: this.#authorization }
    if (body !== undefined) headers['content-type'] = 'application/json'
    if (epoch !== undefined) headers['keystore-epoch'] = String(epoch)
    const target = `${method} ${this.#base}${path}`
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
      throw new KeystoreUnavailable(`${target}: no answer (${reason(error)}); is the service running there?`)
    }
    if (response.ok) return text
    throw errorFrom(target, response, text)
  }
}

function errorFrom(target: string, response: Response, text: string): KeystoreError {
  const { status } = response
  const problem = problemIn(text)
  const slug = (problem.type ?? '').replace('urn:signal-keystore:', '') || 'unknown'
  const message = `${target}: ${status} ${slug}${problem.detail ? `: ${problem.detail}` : ''}`
  if (slug === 'lease-lost') return new KeystoreLeaseLost(message)
  if (slug === 'lease-held') {
    return new KeystoreLeaseHeld(message, problem.holder ?? 'unknown', new Date(problem.expires_at ?? Date.now()))
  }
  if (status >= 500 || RETRYABLE_STATUSES.has(status)) {
    const seconds = Number(response.headers.get('retry-after') ?? 0)
    return new KeystoreUnavailable(message, Math.min(MAX_RETRY_AFTER_MS, Math.max(0, seconds * 1000 || 0)))
  }
  return new KeystoreRefused(message, status, slug)
}

function problemIn(text: string): Partial<Problem> {
  try {
    const problem: unknown = JSON.parse(text)
    return typeof problem === 'object' && problem !== null ? problem : {}
  } catch {
    return {} // Not the service's JSON: a proxy's error page, for example.
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
