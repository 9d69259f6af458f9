/** Baileys' transactions over outages: what was acknowledged last is what is stored, and never anything older. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'

import { addTransactionCapability } from 'baileys'
import pg from 'pg'

import { Sealer } from '../dist/sealing.js'
import { KeystoreClosed, KeystoreUnavailable, useKeystoreAuthState } from '../dist/index.js'
import { Relay } from './relay.mjs'
import { FakeService, TOKEN } from './service.mjs'
import { releaseTimeouts, takeTimeouts } from './timers.mjs'

/** The addresses of a database: of a bot of the company acme, and of its owner. Without them only HTTP is tried. */
const { KEYSTORE_TEST_BOT, KEYSTORE_TEST_OWNER } = process.env
const INTERLEAVINGS = Number(process.env.INTERLEAVINGS ?? 50)
/** The interleavings in which the bot seals its values. */
const SEALED_INTERLEAVINGS = Math.ceil(INTERLEAVINGS / 4)
const SECRET_KEY = Buffer.from(Array.from({ length: 32 }, (_, n) => n))
const sealer = new Sealer('acme', [SECRET_KEY])
const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => silent }
const AWAY = { status: 503, slug: 'unavailable' }
const FAILURES = [
  'drop',
  'lose',
  AWAY,
  { status: 429, slug: 'too-many-requests' },
  { status: 500, slug: 'internal' },
  { status: 200, page: '<h1>Back soon</h1>' },
  { status: 301, page: '', headers: { location: '/' } },
  { status: 404, page: '404 page not found' },
  { status: 413, page: 'too large' }
]

/** `Promise.withResolvers`, which Node 20 lacks. */
function withResolvers() {
  let resolve
  const promise = new Promise(done => (resolve = done))
  return { promise, resolve }
}

const turn = () => new Promise(resolve => setImmediate(resolve))

/** A pseudo-random number generator (mulberry32), so that a seed repeats an interleaving. */
function generator(seed) {
  return below => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

/** The states that memory had at the end of a turn of the event loop. The store has one of them, and never an earlier one. */
class Model {
  reached = 0
  #state = new Map()
  #history = ['[]']
  /** The place of this turn's writes, once it is known, and the function that ends the turn. */
  #recording

  write(entries) {
    for (const [name, value] of entries) {
      if (value === null) this.#state.delete(name)
      else this.#state.set(name, JSON.stringify(value))
    }
    if (!this.#recording) {
      const { promise: place, resolve } = withResolvers()
      const recording = (this.#recording = { place, end: () => resolve(this.record()) })
      void turn().then(() => this.#recording === recording && this.#endTurn())
    }
    return this.#recording.place
  }

  /** Clears the keys; the writes of the turn before and after it are apart. */
  clear() {
    if (this.#recording) this.#endTurn()
    for (const name of this.#state.keys()) if (name !== 'creds') this.#state.delete(name)
    return this.record()
  }

  #endTurn() {
    this.#recording.end()
    this.#recording = undefined
  }

  /** Notes the state of memory, and returns its place. */
  record() {
    const state = JSON.stringify([...this.#state].sort())
    if (state !== this.#history.at(-1)) this.#history.push(state)
    return this.#history.length - 1
  }

  /** The store has this state now. */
  store(entries) {
    const state = JSON.stringify(entries.map(([name, value]) => [name, JSON.stringify(value)]).sort())
    let at = this.#history.indexOf(state, this.reached)
    if (at < 0 && this.#recording) {
      // A write after the model's turn and before the client's joined the client's turn, and is stored already.
      this.#endTurn()
      at = this.#history.indexOf(state, this.reached)
    }
    if (at < 0) this.wrong ??= `the store has a state that memory never had, or an older one: ${state}`
    this.reached = Math.max(at, this.reached)
  }

  get isStored() {
    return this.reached === this.#history.length - 1
  }

  /** A restarted bot has what the store has. */
  restart() {
    this.#state = new Map(JSON.parse(this.#history[this.reached]))
    this.#history.length = this.reached + 1
  }
}

const entriesOf = data =>
  Object.entries(data).flatMap(([type, byId]) => Object.entries(byId).map(([id, value]) => [`${type}/${id}`, value]))

/** Returns the value of stored bytes, which are sealed if the bot seals. `name` is `type/id`, or the creds'. */
function valueIn(name, bytes, isSealed) {
  if (!isSealed) return JSON.parse(bytes.toString())
  const [type, id] = name === 'creds' ? ['', ''] : name.split('/')
  return JSON.parse(sealer.open(type, id, bytes).toString())
}

/** A store over HTTP, which fails as services and proxies do. */
class HttpStore {
  static async start() {
    const store = new HttpStore()
    store.service = await FakeService.start()
    store.options = { url: store.service.url, token: TOKEN }
    return store
  }

  /** Empties the store. `stored` gets its entries after each write. */
  async begin(stored, isSealed) {
    const { service } = this
    const read = (name, value) => (isSealed ? valueIn(name, Buffer.from(value.$base64, 'base64'), true) : value)
    service.creds = null
    service.keys = new Map()
    service.onWrite = () => {
      const creds = service.creds ? read('creds', service.creds).accountSettings : undefined
      const keys = Array.from(service.keys, ([name, value]) => [name, read(name, value)])
      stored([...keys, ...(creds?.v ? [['creds', creds]] : [])])
    }
  }

  fail(random) {
    const failures = Array.from({ length: 1 + random(4) }, () => FAILURES[random(FAILURES.length)])
    this.service.fail(['/keys', '/state', '/creds', '/lease'][random(4)], ...failures)
  }

  /** Is away until `recover`. */
  vanish() {
    for (const end of ['/keys', '/state', '/creds']) this.service.fail(end, ...Array(9).fill(AWAY))
  }

  recover() {
    this.service.recover()
  }

  endLease() {
    this.service.lease.expiresAt = 0
  }

  stop() {
    return this.service.stop()
  }
}

/** A real PostgreSQL behind a relay that fails. */
class PostgresStore {
  static async start() {
    const store = new PostgresStore()
    const url = new URL(KEYSTORE_TEST_BOT)
    store.relay = await Relay.start({ host: url.hostname, port: Number(url.port) })
    url.host = `127.0.0.1:${store.relay.port}`
    store.options = { url: url.href }
    store.owner = new pg.Pool({ connectionString: KEYSTORE_TEST_OWNER, max: 1 })
    return store
  }

  async begin(stored, isSealed) {
    this.relay.onAnswer = async () => {}
    await this.owner.query("DELETE FROM whatsapp_keys WHERE company_id = 'acme'")
    await this.owner.query("DELETE FROM whatsapp_auth WHERE company_id = 'acme'")
    // A bot's connection has one call at a time, so this sees each write before its answer is passed on.
    this.relay.onAnswer = async () => {
      const { rows } = await this.owner.query({
        rowMode: 'array',
        text:
          "SELECT key_type || '/' || key_id, value FROM whatsapp_keys WHERE company_id = 'acme' " +
          "UNION ALL SELECT 'creds', creds FROM whatsapp_auth WHERE company_id = 'acme'"
      })
      const entries = rows.map(([name, value]) => [name, valueIn(name, value.subarray(1), isSealed)])
      stored(
        entries
          .map(([name, value]) => [name, name === 'creds' ? value.accountSettings : value])
          .filter(([name, value]) => name !== 'creds' || value?.v)
      )
    }
  }

  fail(random) {
    this.relay.fail(...Array.from({ length: 1 + random(4) }, () => ['drop', 'lose'][random(2)]))
  }

  vanish() {
    this.relay.fail(...Array(30).fill('drop'))
  }

  recover() {
    this.relay.recover()
  }

  endLease() {
    void this.owner.query("UPDATE keystore_company_leases SET expires_at = '-infinity' WHERE company_id = 'acme'")
  }

  async stop() {
    for (let tries = 500; this.relay.connections > 0 && tries > 0; tries -= 1) await wait(10)
    const left = this.relay.connections
    await this.relay.stop()
    await this.owner.end()
    assert.equal(left, 0, 'every bot is closed, and a connection is open')
  }
}

class Bot {
  #version = 0

  constructor(store, model, isSealed) {
    this.store = store
    this.model = model
    this.secret = isSealed ? { secretKey: SECRET_KEY } : {}
  }

  async open() {
    this.store.recover()
    const options = { ...this.store.options, ...this.secret, company: 'acme', retryForMs: 1 }
    this.auth = await useKeystoreAuthState(options)
    this.model.restart() // Under the new lease no request lands any more that close() gave up on.
    const session = (this.session = { isOpen: true }) // A transaction may outlive it, and be refused.
    const { keys } = this.auth.state
    const set = data => this.#acknowledged(session, entriesOf(data), () => keys.set(data))
    const options7 = { maxCommitRetries: 10, delayBetweenTriesMs: 3_000 }
    this.keys = addTransactionCapability({ ...keys, set }, silent, options7)
    this.set = set
    this.repeat = data => {
      if (session.isOpen) void this.model.write(entriesOf(data))
      return keys.set(data) // It may join a write that waits, and be acknowledged before a later one.
    }
  }

  /** Notes a write of memory; once it is acknowledged, the store has it. */
  #acknowledged(session, entries, save) {
    if (!session.isOpen) return save()
    const recorded = this.model.write(entries) // First, so that it looks before the client ends the turn.
    return save().then(async () => this.#assertStored(await recorded))
  }

  #assertStored(at) {
    assert.ok(this.model.reached >= at, `acknowledged, but the store has state ${this.model.reached} of ${at}`)
  }

  /** A write's keys and values; each has a version of its own. */
  data(random) {
    const value = { v: (this.#version += 1) }
    const id = `${random(4)}`
    this.last = { session: { newest: value, [id]: random(4) === 0 ? null : value }, 'pre-key': { [id]: value } }
    return this.last
  }

  saveCreds(random) {
    const value = { v: (this.#version += 1) }
    this.auth.state.creds.accountSettings = value
    return this.#acknowledged(this.session, [['creds', value]], this.auth.saveCreds)
  }

  async clear() {
    const at = this.model.clear()
    await this.auth.state.keys.clear()
    this.#assertStored(at)
  }

  transaction(random) {
    return this.keys.transaction(async () => {
      await this.keys.get('session', ['newest'])
      await this.keys.set(this.data(random))
      if (random(2)) await this.keys.transaction(() => this.keys.set(this.data(random)), 'b')
    }, random(2) ? 'a' : 'b')
  }

  act(random) {
    const act = random(13)
    if (act < 3) return this.set(this.data(random))
    if (act < 6) return this.transaction(random)
    if (act < 8) return Promise.all([this.saveCreds(random), this.set(this.data(random))])
    if (act < 9) return this.last && this.repeat(this.last)
    if (act < 10) return this.store.endLease()
    if (act < 11) return this.clear()
    this.store.fail(random)
  }

  /** Closes during an outage or not. Every write that waited is stored, or it is rejected. */
  async close(isAway) {
    if (isAway) this.store.vanish()
    else this.store.recover()
    this.session.isOpen = false
    this.model.record() // close() ends the turn.
    const isSaved = await this.auth.close().then(
      () => true,
      error => assert.ok(error instanceof KeystoreUnavailable, error)
    )
    this.store.recover()
    assert.equal(this.model.wrong, undefined)
    if (isSaved) assert.ok(this.model.isStored, 'close() resolved, and a write is missing')
    return isSaved
  }
}

test('an outage longer than retryForMs: the value that was acknowledged last is the one that is stored', async () => {
  // The defaults' proportions, a thousand times as fast.
  const service = await FakeService.start()
  const auth = await useKeystoreAuthState({ url: service.url, token: TOKEN, company: 'acme', retryForMs: 300 })
  const keys = addTransactionCapability(auth.state.keys, silent, { maxCommitRetries: 10, delayBetweenTriesMs: 3 })
  const acknowledged = []
  const write = (chain, mutex) =>
    keys
      .transaction(() => keys.set({ session: { a: { chain } } }), mutex)
      .then(() => acknowledged.push(chain))
  await write('v0', 'a')
  service.fail('/keys', ...Array(99).fill(AWAY))
  const first = write('v1', 'a')
  await wait(400)
  const release = service.hold()
  const sent = service.requests.length
  while (service.requests.length === sent) await wait(5)
  const second = write('v2', 'b') // Just before the answer after which the first caller would have been given up.
  await wait(20)
  release()
  await wait(100)
  assert.deepEqual(acknowledged, ['v0'])
  service.recover()
  await Promise.all([first, second])
  assert.deepEqual(acknowledged, ['v0', 'v1', 'v2'])
  assert.deepEqual(service.value('session', 'a'), { chain: 'v2' })
  await auth.close()
  assert.deepEqual(service.value('session', 'a'), { chain: 'v2' })
  await service.stop()
})

const STORES = KEYSTORE_TEST_BOT ? { PostgreSQL: PostgresStore } : { HTTP: HttpStore }

for (const [way, Store] of Object.entries(STORES)) {
  for (const [times, isSealed] of [[INTERLEAVINGS, false], [SEALED_INTERLEAVINGS, true]]) {
    const name = `${times} random interleavings of outages, transactions, repetitions and closes: ${way}${isSealed ? ', sealed' : ''}`
    test(name, () => interleavings(Store, times, isSealed))
  }
}

async function interleavings(Store, times, isSealed) {
  const store = await Store.start()
  const tick = takeTimeouts()
  let isOver = false
  const clock = (async () => {
    for (; !isOver; await turn()) tick(1_000)
  })()
  let seed = 0
  try {
    for (seed = 1; seed <= times; seed += 1) await interleaving(store, generator(seed), isSealed)
  } catch (error) {
    error.message = `seed ${seed}: ${error.message}`
    throw error
  } finally {
    isOver = true
    await clock
    releaseTimeouts()
    await store.stop()
  }
}

async function interleaving(store, random, isSealed) {
  const model = new Model()
  const bot = new Bot(store, model, isSealed)
  await store.begin(entries => model.store(entries), isSealed)
  await bot.open()
  const failed = []
  for (let step = 4 + random(8); step > 0; step -= 1) {
    const done = bot.act(random)
    if (done) done.catch(error => failed.push(error))
    for (let turns = random(4); turns > 0; turns -= 1) await turn()
    if (random(12) > 0) continue
    await bot.close(random(2) === 0)
    for (let turns = 10; turns > 0; turns -= 1) await turn()
    await bot.open()
  }
  store.recover()
  while (bot.auth.stats().writesWaiting > 0) await turn()
  assert.equal(await bot.close(false), true)
  assert.equal(model.wrong, undefined)
  for (const error of failed) assert.ok(error instanceof KeystoreClosed || error instanceof KeystoreUnavailable, error)
}
