/** A small service that implements the documented protocol in memory, and fails on request. */
import { createServer } from 'node:http'

export const TOKEN = 'kst_abc_SECRETSECRETSECRET'

export class FakeService {
  creds = null
  keys = new Map()
  lease = { holder: '', epoch: 0, expiresAt: 0 }
  /** The received requests: {method, path, body, epoch}. */
  requests = []
  connections = 0
  used = []
  heartbeats = []
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
   * Makes the next requests with this end of the path fail: with a problem `{status, slug}`, or by closing the
   * connection before ('drop') or after ('lose') the request has taken effect.
   */
  fail(end, ...failures) {
    this.#failures.push(...failures.map(failure => ({ end, failure })))
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

  value(type, id) {
    return this.keys.get(`${type}/${id}`)
  }

  async #answer(request, response) {
    let body = ''
    for await (const chunk of request) body += chunk
    const epoch = request.headers['keystore-epoch']
    this.requests.push({ method: request.method, path: request.url, body, epoch: epoch && Number(epoch) })
    const url = new URL(request.url, this.url)
    const at = this.#failures.findIndex(({ end }) => url.pathname.endsWith(end))
    const failure = at < 0 ? undefined : this.#failures.splice(at, 1)[0].failure
    await this.#gate
    if (failure === 'drop') return request.socket.destroy()
    if (typeof failure === 'object') return problem(response, failure)
    try {
      const answer = this.#do(request, url, body, epoch === undefined ? undefined : Number(epoch))
      if (failure === 'lose') return request.socket.destroy()
      response.writeHead(answer === undefined ? 204 : 200, { 'content-type': 'application/json' })
      response.end(answer === undefined ? undefined : JSON.stringify(answer))
    } catch (error) {
      if (!error.slug) throw error
      problem(response, error)
    }
  }

  #do(request, url, body, epoch) {
    if (request.headers.authorization !== `Bearer ${TOKEN}`) throw { status: 401, slug: 'unauthorized' }
    const [, company, operation] = /^\/v1\/companies\/([^/]+)\/(.+)$/.exec(url.pathname)
    if (company !== 'acme') throw { status: 403, slug: 'forbidden' }
    const content = body ? JSON.parse(body) : undefined
    switch (`${request.method} ${operation}`) {
      case 'GET state': {
        const keys = {}
        for (const [name, value] of this.keys) {
          const [, type, id] = /^([^/]+)\/(.+)$/s.exec(name)
          ;(keys[type] ??= {})[id] = value
        }
        return { creds: this.creds, keys }
      }
      case 'POST state':
        return this.#write(epoch, content.keys, content.creds)
      case 'POST keys':
        return this.#write(epoch, content)
      case 'PUT creds':
        return this.#write(epoch, {}, content)
      case 'POST keys/used': {
        this.used.push(content)
        const absent = Object.entries(content).map(([type, ids]) => [type, ids.filter(id => !this.keys.has(`${type}/${id}`))])
        return { missing: Object.fromEntries(absent.filter(([, ids]) => ids.length > 0)) }
      }
      case 'POST heartbeat':
        return void this.heartbeats.push(content)
      case 'POST lease':
        return this.#lease(content)
      case 'DELETE lease': {
        const isHolder =
          url.searchParams.get('holder') === this.lease.holder &&
          Number(url.searchParams.get('epoch')) === this.lease.epoch
        if (isHolder) this.lease.expiresAt = 0
        return undefined
      }
    }
    throw { status: 404, slug: 'not-found' }
  }

  #write(epoch, keys, creds) {
    const liveEpoch = this.lease.expiresAt > Date.now() ? this.lease.epoch : undefined
    if (epoch !== liveEpoch) throw { status: 409, slug: 'lease-lost' }
    for (const [type, byId] of Object.entries(keys)) {
      for (const id of Object.keys(byId)) if (id === 'refused') throw { status: 400, slug: 'invalid-input' }
      for (const [id, value] of Object.entries(byId)) {
        if (value === null) this.keys.delete(`${type}/${id}`)
        else this.keys.set(`${type}/${id}`, value)
      }
    }
    if (creds !== undefined) this.creds = creds
  }

  #lease({ holder, ttl_s, epoch, force }) {
    const alive = this.lease.expiresAt > Date.now()
    const expiresAt = Date.now() + ttl_s * 1000
    if (epoch !== undefined) {
      if (!alive || epoch !== this.lease.epoch || holder !== this.lease.holder)
        throw { status: 409, slug: 'lease-lost' }
      this.lease.expiresAt = expiresAt
    } else if (alive && holder !== this.lease.holder && !force) {
      throw {
        status: 409,
        slug: 'lease-held',
        holder: this.lease.holder,
        expires_at: new Date(this.lease.expiresAt).toISOString()
      }
    } else {
      this.lease = { holder, epoch: this.lease.epoch + 1, expiresAt }
    }
    return { epoch: this.lease.epoch, expires_at: new Date(expiresAt).toISOString() }
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
