import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { afterEach, beforeEach, mock, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { inspect } from 'node:util'

import { proto } from 'baileys'

import {
  KeystoreClosed,
  KeystoreError,
  KeystoreLeaseHeld,
  KeystoreLeaseLost,
  KeystoreRefused,
  KeystoreUnavailable,
  useKeystoreAuthState
} from '../dist/index.js'
import { FakeService, TOKEN } from './service.mjs'

const LATER = Date.now() + 3_600_000

let service
let opened

beforeEach(async () => {
  service = await FakeService.start()
  opened = []
})

afterEach(async () => {
  mock.timers.reset()
  for (const auth of opened) await auth.close().catch(() => {})
  await service.stop().catch(() => {})
})

async function open(options = {}) {
  const auth = await useKeystoreAuthState({
    url: service.url,
    token: TOKEN,
    company: 'acme',
    connectForMs: 2_000,
    ...options
  })
  opened.push(auth)
  return auth
}

async function eventually(condition, description) {
  for (let left = 500; left > 0; left -= 1) {
    if (condition()) return
    await wait(10)
  }
  assert.fail(`not within 5 s: ${description}`)
}

const session = text => ({ _sessions: { a: { chain: text } }, version: 'v1' })

test('a new account gets fresh creds, after one request for the lease and one to load', async () => {
  const { state } = await open()
  assert.equal(state.creds.registered, false)
  assert.equal(state.creds.nextPreKeyId, 1)
  assert.deepEqual(
    service.requests.map(({ method, path }) => `${method} ${path}`),
    ['POST /v1/companies/acme/lease', 'GET /v1/companies/acme/state']
  )
})

test('written keys and creds are read back after a restart, as Baileys wrote them', async () => {
  const first = await open()
  const pair = { private: Buffer.from([1, 2]), public: new Uint8Array([3, 4]) }
  await first.state.keys.set({
    'pre-key': { 7: pair },
    session: { 'a.0': session('x') },
    'sender-key': { 'g@g.us::a::0': Buffer.from('[]') },
    'lid-mapping': { 123: '456' },
    'app-state-sync-key': {
      AAAA: proto.Message.AppStateSyncKeyData.fromObject({ keyData: Buffer.from([9]), timestamp: 5 })
    }
  })
  first.state.creds.me = { id: '1@s.whatsapp.net' }
  await first.saveCreds()
  await first.close()

  const { state, stats } = await open()
  assert.equal(state.creds.me.id, '1@s.whatsapp.net')
  assert.deepEqual(
    state.creds.noiseKey,
    JSON.parse(JSON.stringify(first.state.creds.noiseKey), (_, v) => (v?.type === 'Buffer' ? Buffer.from(v.data) : v))
  )
  assert.deepEqual(await state.keys.get('pre-key', ['7', '8']), {
    7: { private: Buffer.from([1, 2]), public: Buffer.from([3, 4]) }
  })
  assert.deepEqual((await state.keys.get('session', ['a.0']))['a.0'], session('x'))
  assert.deepEqual((await state.keys.get('sender-key', ['g@g.us::a::0']))['g@g.us::a::0'], Buffer.from('[]'))
  assert.equal((await state.keys.get('lid-mapping', ['123']))['123'], '456')
  const { AAAA } = await state.keys.get('app-state-sync-key', ['AAAA'])
  assert.ok(AAAA instanceof proto.Message.AppStateSyncKeyData)
  assert.deepEqual(Buffer.from(AAAA.keyData), Buffer.from([9]))
  assert.equal(stats().keys, 5)
})

test('values of older bots are revived: a Buffer as an array, and bytes that are not JSON', async () => {
  service.keys.set('sender-key/array', { type: 'Buffer', data: [1, 2] })
  service.keys.set('sender-key/bytes', { $base64: 'AwQ=' })
  const { state } = await open()
  assert.deepEqual(await state.keys.get('sender-key', ['array', 'bytes']), {
    array: Buffer.from([1, 2]),
    bytes: Buffer.from([3, 4])
  })
})

test('changing a value that was read or written changes nothing in the store', async () => {
  const { state } = await open()
  const written = session('x')
  await state.keys.set({ session: { a: written } })
  written.version = 'changed'
  ;(await state.keys.get('session', ['a'])).a.version = 'changed'
  assert.equal((await state.keys.get('session', ['a'])).a.version, 'v1')
})

test('null and undefined delete', async () => {
  const { state } = await open()
  await state.keys.set({ session: { a: session('1'), b: session('2'), c: session('3') } })
  await state.keys.set({ session: { a: null, b: undefined } })
  assert.deepEqual(Object.keys(await state.keys.get('session', ['a', 'b', 'c'])), ['c'])
  assert.deepEqual([...service.keys.keys()], ['session/c'])
})

test('a write is read at once, and acknowledged only when the service has it', async () => {
  const { state } = await open()
  const release = service.hold()
  let saved = false
  const writing = state.keys.set({ session: { a: session('1') } }).then(() => (saved = true))
  assert.deepEqual((await state.keys.get('session', ['a'])).a, session('1'))
  await eventually(() => service.received('POST', '/keys').length === 1, 'the write is under way')
  assert.equal(saved, false)
  release()
  await writing
})

test('creds and the keys written beside them are one request', async () => {
  const { state, saveCreds } = await open()
  state.creds.nextPreKeyId = 3
  const saved = [
    saveCreds(),
    state.keys.set({ 'pre-key': { 1: { a: 1 } } }),
    Promise.resolve().then(() => state.keys.set({ 'pre-key': { 2: { a: 2 } } }))
  ]
  await Promise.all(saved)
  assert.deepEqual(
    service.requests.slice(2).map(({ path }) => path),
    ['/v1/companies/acme/state']
  )
  assert.equal(service.creds.nextPreKeyId, 3)
  assert.equal(service.keys.size, 2)
})

test('writes during a request are merged into the next, and the last value wins', async () => {
  const { state } = await open()
  const release = service.hold()
  const writes = [state.keys.set({ session: { a: session('0') } })]
  await eventually(() => service.received('POST', '/keys').length === 1, 'the first is under way')
  for (let n = 1; n <= 200; n += 1)
    writes.push(state.keys.set({ session: { a: session(`${n}`), [`b${n}`]: n % 2 ? session('b') : null } }))
  await wait(50)
  assert.equal(service.received('POST', '/keys').length, 1)
  release()
  await Promise.all(writes)
  assert.equal(service.received('POST', '/keys').length, 2)
  assert.deepEqual(service.value('session', 'a'), session('200'))
  assert.equal(service.keys.size, 101)
})

test('many requests share a connection', async () => {
  const { state } = await open()
  for (let n = 0; n < 50; n += 1) await state.keys.set({ session: { a: session(`${n}`) } })
  assert.ok(service.connections <= 2, `${service.connections} connections`)
})

test('a write survives every kind of outage, and the order is kept', async () => {
  const { state, stats } = await open()
  service.fail(
    '/keys',
    'drop',
    'lose',
    { status: 503, slug: 'unavailable' },
    { status: 500, slug: 'internal' },
    { status: 429, slug: 'too-many-requests' }
  )
  const writes = [state.keys.set({ session: { a: session('1') } })]
  await eventually(() => stats().retries > 0, 'a retry')
  writes.push(state.keys.set({ session: { a: session('2') } }))
  await Promise.all(writes)
  assert.deepEqual(service.value('session', 'a'), session('2'))
  assert.equal(stats().retries, 5)
  assert.equal(stats().writesWaiting, 0)
  assert.equal(stats().bytesWaiting, 0)
})

test('a write survives a restart of the service', async () => {
  const { state } = await open()
  await service.stop()
  const writing = state.keys.set({ session: { a: session('1') } })
  await wait(300)
  await service.listen(service.port)
  await writing
  assert.deepEqual(service.value('session', 'a'), session('1'))
})

test('a retry waits for Retry-After', async () => {
  const { state } = await open()
  service.fail('/keys', { status: 503, slug: 'unavailable', retryAfter: 1 })
  const began = performance.now()
  await state.keys.set({ session: { a: session('1') } })
  assert.ok(performance.now() - began >= 990)
})

test('a retry renews the lease first, which waits for the first attempt', async () => {
  const { state } = await open()
  service.fail('/keys', 'lose')
  await state.keys.set({ session: { a: session('1') } })
  assert.deepEqual(
    service.requests.slice(2).map(({ path }) => path.split('/').at(-1)),
    ['keys', 'lease', 'keys']
  )
})

test('a write rejects after retryForMs, and is still saved when the service is back', async () => {
  const { state, stats } = await open({ retryForMs: 200 })
  await service.stop()
  await assert.rejects(state.keys.set({ session: { a: session('1') } }), KeystoreUnavailable)
  assert.deepEqual((await state.keys.get('session', ['a'])).a, session('1'))
  await service.listen(service.port)
  await eventually(() => stats().writesWaiting === 0, 'nothing waits')
  assert.deepEqual(service.value('session', 'a'), session('1'))
})

test('a full queue refuses a write, and memory stays unchanged', async () => {
  const { state, stats } = await open({ retryForMs: 60_000 })
  const release = service.hold()
  const large = 'x'.repeat(7 * 1024 * 1024)
  const writes = Array.from({ length: 9 }, (_, n) => state.keys.set({ session: { [n]: large } }))
  await assert.rejects(state.keys.set({ session: { more: large } }), /9 writes wait/)
  assert.deepEqual(await state.keys.get('session', ['more']), {})
  release()
  await Promise.all(writes)
  assert.equal(service.keys.size, 9)
  assert.equal(stats().bytesWaiting, 0)
})

test('a set larger than a request is sent in several, and creds with the last', async () => {
  const { state, saveCreds } = await open()
  const mappings = Object.fromEntries(Array.from({ length: 12_001 }, (_, n) => [`${n}`, `${n}`]))
  await Promise.all([state.keys.set({ 'lid-mapping': mappings }), saveCreds()])
  const counts = service.requests
    .slice(2)
    .map(({ path, body }) => [
      path.split('/').at(-1),
      Object.keys((JSON.parse(body).keys ?? JSON.parse(body))['lid-mapping']).length
    ])
  assert.deepEqual(counts, [
    ['keys', 5_000],
    ['keys', 5_000],
    ['state', 2_001]
  ])
  assert.equal(service.keys.size, 12_001)
})

test('a refused set fails alone', async () => {
  const { state } = await open()
  const results = await Promise.allSettled([
    state.keys.set({ session: { a: session('1') } }),
    state.keys.set({ session: { refused: session('2') } }),
    state.keys.set({ session: { b: session('3') } })
  ])
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled']
  )
  assert.ok(results[1].reason instanceof KeystoreRefused)
  assert.deepEqual([...service.keys.keys()], ['session/a', 'session/b'])
})

test('a value that JSON or the store cannot express is refused before any change', async () => {
  const { state } = await open()
  for (const data of [
    { session: { a: session('1'), '': session('2') } },
    { session: { a: session('1'), b: () => 1 } },
    { session: { a: session('1'), ['x'.repeat(256)]: 1 } }
  ]) {
    await assert.rejects(state.keys.set(data), KeystoreError)
  }
  assert.deepEqual(await state.keys.get('session', ['a']), {})
  assert.equal(service.requests.length, 2)
})

test('clear deletes every key and leaves creds', async () => {
  const { state, saveCreds } = await open()
  await Promise.all([state.keys.set({ session: { a: session('1') }, 'pre-key': { 1: {} } }), saveCreds()])
  await state.keys.clear()
  assert.equal(service.keys.size, 0)
  assert.notEqual(service.creds, null)
  assert.deepEqual(await state.keys.get('session', ['a']), {})
})

test('close saves writes, reports used keys, releases the lease, and ends the state', async () => {
  const { state, close } = await open()
  await state.keys.set({ session: { a: session('1'), b: session('2') }, 'pre-key': { 1: {} } })
  await state.keys.get('session', ['a', 'b', 'absent'])
  const late = [state.keys.set({ session: { b: session('3'), c: session('4') } })]
  await close()
  await Promise.all(late)
  assert.deepEqual(service.value('session', 'c'), session('4'))
  assert.deepEqual(service.used, [{ session: ['a'] }])
  assert.equal(service.lease.expiresAt, 0)
  await assert.rejects(state.keys.set({ session: { d: session('5') } }), KeystoreClosed)
  await assert.rejects(state.keys.get('session', ['a']), KeystoreClosed)
  assert.equal(close(), close())
})

test('close waits for the service to come back', async () => {
  const { state, close } = await open()
  await service.stop()
  const writing = state.keys.set({ session: { a: session('1') } })
  const closing = close()
  await wait(200)
  await service.listen(service.port)
  await Promise.all([closing, writing])
  assert.deepEqual(service.value('session', 'a'), session('1'))
})

test('close rejects if a write could not be saved', async () => {
  const { state, close } = await open({ retryForMs: 300 })
  await service.stop()
  const writing = assert.rejects(state.keys.set({ session: { a: session('1') } }), KeystoreUnavailable)
  await assert.rejects(close(), /1 writes aren't saved/)
  await writing
})

test('close rejects if the lease was lost before every write was saved', async () => {
  const { state, close } = await open()
  service.lease = { holder: 'other', epoch: 2, expiresAt: LATER }
  const writing = assert.rejects(state.keys.set({ session: { a: session('1') } }), KeystoreLeaseLost)
  await assert.rejects(close(), KeystoreLeaseLost)
  await writing
})

test('a failed write that nobody awaits does not end the process', async () => {
  const { saveCreds, stats } = await open()
  service.fail('/creds', { status: 401, slug: 'unauthorized' })
  saveCreds()
  await eventually(() => stats().lastError !== undefined, 'the write failed')
})

test('a write carries the epoch; a crashed bot gets its lease back with a new epoch', async () => {
  const first = await open({ instance: 'one' })
  assert.equal(service.lease.holder, `${hostname()}/one`)
  await first.state.keys.set({ session: { a: session('1') } })
  assert.equal(service.requests.at(-1).epoch, 1)
  const second = await open({ instance: 'one' })
  assert.equal(second.stats().epoch, 2)
})

test('another holder learns who has the lease and until when', async () => {
  await open({ instance: 'one' })
  const refused = await open({ instance: 'two' }).catch(error => error)
  assert.ok(refused instanceof KeystoreLeaseHeld)
  assert.equal(refused.holder, `${hostname()}/one`)
  assert.ok(refused.expiresAt > new Date())
  assert.equal(service.received('GET', '/state').length, 1)
})

test('another holder may wait for the lease', async () => {
  const first = await open({ instance: 'one' })
  const second = open({ instance: 'two', waitForLease: true })
  await wait(150)
  service.lease.expiresAt = Date.now() // The first bot's process has crashed.
  assert.equal((await second).stats().epoch, 2)
  assert.equal(first.stats().epoch, 1)
})

test('a lease taken by force ends all writes of the older bot, which hears of it once', async () => {
  const lost = []
  const older = await open({ instance: 'one', onLeaseLost: error => lost.push(error) })
  await older.state.keys.set({ session: { a: session('older') } })
  const newer = await open({ instance: 'two', force: true })
  await newer.state.keys.set({ session: { a: session('newer') } })
  const writes = [
    older.state.keys.set({ session: { a: session('stale') } }),
    older.saveCreds(),
    older.state.keys.set({ session: { b: session('stale') } })
  ]
  for (const { status, reason } of await Promise.allSettled(writes)) {
    assert.equal(status, 'rejected')
    assert.ok(reason instanceof KeystoreLeaseLost)
  }
  const requests = service.requests.length
  await assert.rejects(older.state.keys.set({ session: { c: session('stale') } }), KeystoreLeaseLost)
  await eventually(() => lost.length > 0, 'onLeaseLost is called')
  await older.close()
  assert.equal(service.requests.length, requests, 'nothing is sent any more')
  assert.equal(lost.length, 1)
  assert.ok(older.stats().leaseLost)
  assert.deepEqual([...service.keys], [['session/a', session('newer')]])
  await newer.state.keys.set({ session: { a: session('newest') } })
})

test('a lease that expired in an outage is taken back if nobody had it since', async () => {
  const { state, stats } = await open()
  service.lease.expiresAt = 0
  await state.keys.set({ session: { a: session('1') } })
  assert.equal(stats().epoch, 3)
  assert.equal(service.lease.holder, hostname())
  assert.deepEqual(service.value('session', 'a'), session('1'))
})

for (const [state, successor] of [
  ['is alive', { expiresAt: LATER }],
  ['has ended', { expiresAt: 0 }]
]) {
  test(`a lease is not taken back from a successor of the same name that ${state}`, async () => {
    const { state } = await open()
    service.lease = { holder: hostname(), epoch: 2, ...successor }
    await assert.rejects(state.keys.set({ session: { a: session('1') } }), KeystoreLeaseLost)
    assert.equal(service.keys.size, 0)
    assert.equal(service.lease.expiresAt, successor.expiresAt)
  })
}

test('the lease is renewed at a third of its life, which also detects its loss', async () => {
  mock.timers.enable({ apis: ['setTimeout'] })
  const lost = []
  await open({ onLeaseLost: error => lost.push(error) })
  mock.timers.tick(19_900)
  assert.equal(service.received('POST', '/lease').length, 1)
  mock.timers.tick(200)
  await turns(() => service.received('POST', '/lease').length === 2)
  assert.equal(JSON.parse(service.requests.at(-1).body).epoch, 1)
  service.lease = { holder: 'other', epoch: 2, expiresAt: LATER }
  await turns(() => (mock.timers.tick(20_100), lost.length === 1))
})

test('used keys and memory are reported once a minute, and a failed report is repeated', async () => {
  mock.timers.enable({ apis: ['setInterval'] })
  const { state, stats } = await open()
  await state.keys.set({ session: { a: session('1'), b: session('2') } })
  await state.keys.get('session', ['a', 'b'])
  service.fail('/keys/used', { status: 503, slug: 'unavailable' })
  mock.timers.tick(60_000)
  await turns(() => service.received('POST', '/keys/used').length === 1 && stats().usesWaiting === 2)
  mock.timers.tick(60_000)
  await turns(() => service.used.length === 1 && service.heartbeats.length === 2)
  assert.equal(stats().usesWaiting, 0)
  assert.deepEqual(service.used, [{ session: ['a', 'b'] }])
  const [memory] = service.heartbeats
  assert.deepEqual(Object.keys(memory).sort(), ['heap_limit_bytes', 'heap_total_bytes', 'heap_used_bytes', 'rss_bytes'])
  assert.ok(memory.heap_used_bytes > 0 && memory.heap_used_bytes < memory.heap_limit_bytes)
})

test('a used key that a sweep deleted is written again, at the report and at the end', async () => {
  mock.timers.enable({ apis: ['setInterval'] })
  const { state, close } = await open()
  await state.keys.set({ session: { a: session('1'), b: session('2'), c: session('3') } })
  for (const id of ['a', 'b']) service.keys.delete(`session/${id}`)
  await state.keys.get('session', ['a', 'b', 'c'])
  await state.keys.set({ session: { b: null } })
  mock.timers.tick(60_000)
  await turns(() => service.value('session', 'a') !== undefined)
  assert.deepEqual(service.value('session', 'a'), session('1'))
  assert.equal(service.value('session', 'b'), undefined)
  await state.keys.get('session', ['c'])
  service.keys.delete('session/c')
  await close()
  assert.deepEqual(service.value('session', 'c'), session('3'))
})

test("without a lease no write carries an epoch, and another holder's lease ends writing", async () => {
  const lost = []
  const { state } = await open({ lease: false, onLeaseLost: error => lost.push(error) })
  await state.keys.set({ session: { a: session('1') } })
  assert.equal(service.requests.at(-1).epoch, undefined)
  assert.equal(service.received('POST', '/lease').length, 0)
  await open()
  await assert.rejects(state.keys.set({ session: { a: session('2') } }), KeystoreLeaseLost)
  await eventually(() => lost.length === 1, 'onLeaseLost is called')
})

test('opening waits for a service that starts later, and gives up in time', async () => {
  await service.stop()
  await assert.rejects(open({ connectForMs: 200 }), KeystoreUnavailable)
  const warned = []
  const opening = open({ logger: { warn: fields => warned.push(fields) } })
  await wait(150)
  await service.listen(service.port)
  await opening
  assert.equal(warned[0].event, 'keystore_unavailable')
})

test('a wrong token, company or address is an error at once', async () => {
  await assert.rejects(
    open({ token: 'kst_a_wrong' }),
    error => error instanceof KeystoreRefused && error.status === 401
  )
  await assert.rejects(
    open({ company: 'other' }),
    error => error instanceof KeystoreRefused && error.slug === 'forbidden'
  )
  await assert.rejects(
    open({ url: 'http://me:pass@127.0.0.1' }),
    error => /without a user or password/.test(error.message) && !inspect(error).includes('pass@')
  )
  await assert.rejects(open({ url: 'nonsense' }), /url: expected/)
  await assert.rejects(open({ token: `${TOKEN}\nx` }), error => !inspect(error).includes('SECRET'))
})

test('no error, log line or inspection shows a token or a value', async () => {
  const texts = []
  const auth = await open({ retryForMs: 1, logger: { warn: (...line) => texts.push(inspect(line)) } })
  service.fail('/keys', { status: 503, slug: 'unavailable' })
  texts.push(inspect(await auth.state.keys.set({ session: { a: 'HIDDEN' } }).catch(error => error), { depth: 9 }))
  service.fail('/keys', 'drop')
  texts.push(inspect(await auth.state.keys.set({ session: { a: 'HIDDEN' } }).catch(error => error), { depth: 9 }))
  texts.push(inspect(await auth.state.keys.set({ session: { refused: 'HIDDEN' } }).catch(error => error), { depth: 9 }))
  texts.push(inspect({ keys: auth.state.keys, close: auth.close, stats: auth.stats() }, { depth: 9, showHidden: true }))
  assert.equal(texts.length >= 6, true)
  for (const text of texts) assert.ok(!/SECRET|HIDDEN/.test(text), text)
})

/** Lets the event loop turn until the condition holds, without a wait: the clock is mocked. */
async function turns(condition) {
  for (let left = 20_000; left > 0; left -= 1) {
    if (condition()) return
    await new Promise(resolve => setImmediate(resolve))
  }
  assert.fail('the condition never held')
}
