/** A small service that implements the documented protocol in memory, and fails on request. */
import { createServer } from 'node:http'

export const TOKEN = 'kst_abc_SECRETSECRETSECRET'

export class FakeService {
  creds = null
  keys = new Map()
  /** The keys that each clear put away. */
  trash = []
  lease = { holder: '', epoch: 0, seq: 0, expiresAt: 0 }
  /** The received requests: {method, path, body, epoch, seq}. */
  requests = []
  connections = 0
  used = []
  heartbeats = []
  /** Called after each write that changed something. */
  onWrite
  #failures = []
  #gate
  #server

  static async start() {
    const service = new FakeService()
    await service.listen(0)
    return service
  }

  async listen(port) {
    this.#server = createServer((request, response) => void this.#answer(request, response))
    this.#server.on('connection', () => (this.connections += 1))
    await new Promise(resolve => this.#server.listen(port, '127.0.0.1', resolve))
    this.port = this.#server.address().port
    this.url = `http://127.0.0.1:${this.port}`
  }

  async stop() {
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
  }

  /**
   * Makes the next requests with this end of the path fail: with a problem `{status, slug}`, with a proxy's `{status, page}`,
   * or by closing the connection before ('drop') or after ('lose') the request has taken effect.
   */
  fail(end, ...failures) {
    this.#failures.push(...failures.map(failure => ({ end, failure })))
  }

  /** Takes the failures back that no request has had yet. */
  recover() {
    this.#failures = []
  }

  /** Delays every answer until the returned function is called. */
  hold() {
    let release
    this.#gate = new Promise(resolve => (release = resolve))
    return () => {
      this.#gate = undefined
      release()
    }
  }

  /** Returns the received requests with this method and end of the path. */
  received(method, end) {
    return this.requests.filter(request => request.method === method && request.path.split('?')[0].endsWith(end))
  }

  /** Returns a copy of everything stored, for `putBack`. */
  backup() {
    return structuredClone({ creds: this.creds, keys: this.keys, lease: this.lease })
  }

  /** Puts a backup in the place of the database. */
  putBack(backup) {
    Object.assign(this, structuredClone(backup))
  }

  value(type, id) {
    return this.keys.get(`${type}/${id}`)
  }

  async #answer(request, response) {
    let body = ''
    for await (const chunk of request) body += chunk
    const [epoch, seq, acknowledged] = ['keystore-epoch', 'keystore-seq', 'keystore-acknowledged'].map(name => {
      const value = request.headers[name]
      return value === undefined ? undefined : Number(value)
    })
    this.requests.push({ method: request.method, path: request.url, body, epoch, seq })
    const url = new URL(request.url, this.url)
    const at = this.#failures.findIndex(({ end }) => url.pathname.endsWith(end))
    const failure = at < 0 ? undefined : this.#failures.splice(at, 1)[0].failure
    await this.#gate
    if (failure === 'drop') return request.socket.destroy()
    if (failure?.page !== undefined) return void response.writeHead(failure.status, failure.headers).end(failure.page)
    if (typeof failure === 'object') return problem(response, failure)
    try {
      const answer = this.#do(request, url, body, { epoch, seq, acknowledged })
      if (failure === 'lose') return request.socket.destroy()
      response.writeHead(answer === undefined ? 204 : 200, { 'content-type': 'application/json' })
      response.end(answer === undefined ? undefined : JSON.stringify(answer))
    } catch (error) {
      if (!error.slug) throw error
      problem(response, error)
    }
  }

  #do(request, url, body, number) {
    if (request.headers.authorization !== `Bearer ${TOKEN}`) throw { status: 401, slug: 'unauthorized' }
    const [, company, operation] = /^\/v1\/companies\/([^/]+)\/(.+)$/.exec(url.pathname)
    if (company !== 'acme') throw { status: 403, slug: 'forbidden' }
    const content = body ? JSON.parse(body) : undefined
    switch (`${request.method} ${operation}`) {
      case 'GET state':
        return this.#state()
      case 'POST state':
        return this.#write(number, content.keys, content.creds)
      case 'POST keys':
        return this.#write(number, content)
      case 'DELETE keys':
        return void (this.#admit(number) && this.#clear())
      case 'PUT creds':
        return this.#write(number, {}, content)
      case 'POST keys/used': {
        this.used.push(content)
        const absent = Object.entries(content).map(([type, ids]) => [type, ids.filter(id => !this.keys.has(`${type}/${id}`))])
        return { missing: Object.fromEntries(absent.filter(([, ids]) => ids.length > 0)) }
      }
      case 'POST heartbeat':
        return void this.heartbeats.push(content)
      case 'POST lease': {
        const answer = this.#lease(content)
        return content.state ? { ...answer, state: this.#state() } : answer
      }
      case 'DELETE lease': {
        const isHolder =
          url.searchParams.get('holder') === this.lease.holder &&
          Number(url.searchParams.get('epoch')) === this.lease.epoch
        if (isHolder) Object.assign(this.lease, { holder: '', expiresAt: 0 })
        return undefined
      }
    }
    throw { status: 404, slug: 'not-found' }
  }

  #state() {
    const keys = {}
    for (const [name, value] of this.keys) {
      const [, type, id] = /^([^/]+)\/(.+)$/s.exec(name)
      ;(keys[type] ??= {})[id] = value
    }
    return { creds: this.creds, keys, epoch: this.lease.epoch, seq: this.lease.seq }
  }

  /** Returns true if a write is to be done; it may have been done before. */
  #admit({ epoch, seq, acknowledged }) {
    const isAlive = this.lease.expiresAt > Date.now()
    if (epoch !== (isAlive ? this.lease.epoch : undefined)) throw { status: 409, slug: 'lease-lost' }
    if (epoch === undefined) this.lease.holder = ''
    else if (seq !== undefined) {
      if (this.lease.seq < acknowledged) throw { status: 409, slug: 'went-back' }
      if (seq <= this.lease.seq) return false
      this.lease.seq = seq
    }
    return true
  }

  #clear() {
    this.trash.push(this.keys)
    this.keys = new Map()
    this.onWrite?.()
  }

  #write(number, keys, creds) {
    for (const byId of Object.values(keys))
      for (const id of Object.keys(byId)) if (id === 'refused') throw { status: 400, slug: 'invalid-input' }
    if (!this.#admit(number)) return
    for (const [type, byId] of Object.entries(keys)) {
      for (const [id, value] of Object.entries(byId)) {
        if (value === null) this.keys.delete(`${type}/${id}`)
        else this.keys.set(`${type}/${id}`, stored(value))
      }
    }
    if (creds !== undefined) this.creds = stored(creds)
    this.onWrite?.()
  }

  #lease({ holder, ttl_s, epoch, force, acknowledged }) {
    const { lease } = this
    const isAlive = lease.expiresAt > Date.now()
    const expiresAt = Date.now() + ttl_s * 1000
    const behind =
      acknowledged !== undefined &&
      (lease.epoch < acknowledged.epoch || (lease.epoch === acknowledged.epoch && lease.seq < acknowledged.seq))
    if (epoch !== undefined) {
      if (epoch !== lease.epoch || holder !== lease.holder) throw { status: 409, slug: 'lease-lost' }
      lease.expiresAt = expiresAt
    } else if (isAlive && holder !== lease.holder && !force) {
      const expires_at = new Date(lease.expiresAt).toISOString()
      throw { status: 409, slug: 'lease-held', holder: lease.holder, expires_at }
    } else {
      this.lease = { holder, epoch: lease.epoch + 1, seq: 0, expiresAt }
    }
    return { epoch: this.lease.epoch, expires_at: new Date(expiresAt).toISOString(), seq: this.lease.seq, behind }
  }
}

/** A value as the service keeps it and sends it back. It refuses half of a surrogate pair, as its JSON parser does. */
function stored(value) {
  if (JSON.stringify(value).includes('\\ud')) throw { status: 400, slug: 'invalid-input' }
  if (typeof value !== 'object' || Object.keys(value).join() !== '$base64') return value
  const text = Buffer.from(value.$base64, 'base64').toString()
  if (text.includes('\\ud') || text.startsWith('{"$base64"')) return value
  try {
    return JSON.parse(text)
  } catch {
    return value // It stays bytes.
  }
}

function problem(response, { status, slug, retryAfter, ...members }) {
  response.writeHead(status, {
    'content-type': 'application/problem+json',
    ...(retryAfter ? { 'retry-after': retryAfter } : {})
  })
  const body = { type: `urn:signal-keystore:${slug}`, title: slug, status, detail: 'do this', ...members }
  response.end(JSON.stringify(body))
}
