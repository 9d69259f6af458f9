import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, mock, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { inspect } from 'node:util'

import * as baileys from 'baileys'

import {
  KeystoreClosed,
  KeystoreError,
  KeystoreLeaseHeld,
  KeystoreLeaseLost,
  KeystoreRefused,
  KeystoreUnavailable
} from '../dist/index.js'
import { begin, end, eventually, open, service, session } from './account.mjs'
import { TOKEN } from './service.mjs'
import { releaseTimeouts, takeTimeouts } from './timers.mjs'

const { addTransactionCapability, proto, useMultiFileAuthState } = baileys
const LATER = Date.now() + 3_600_000

beforeEach(begin)

afterEach(async () => {
  mock.timers.reset()
  releaseTimeouts()
  await end()
})

test('a new account gets fresh creds, after one request for the lease and the state', async () => {
  const { state } = await open()
  assert.equal(state.creds.registered, false)
  assert.equal(state.creds.nextPreKeyId, 1)
  assert.deepEqual(
    service.requests.map(({ method, path }) => `${method} ${path}`),
    ['POST /v1/companies/acme/lease']
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
    service.requests.slice(1).map(({ path }) => path),
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

test('writes are numbered, and a repetition has the same number and content', async () => {
  const { state, stats } = await open()
  service.fail('/keys', 'lose', 'drop')
  await state.keys.set({ session: { a: session('1') } })
  await state.keys.set({ session: { a: session('2') } })
  const sent = service.requests.slice(1).map(({ path, epoch, seq, body }) => [path.split('/').at(-1), epoch, seq, body])
  const first = ['keys', 1, 1, sent[0][3]]
  assert.deepEqual(sent, [first, first, first, ['keys', 1, 2, sent[3][3]]])
  assert.equal(service.lease.seq, 2)
  assert.equal(stats().retries, 2)
})

test('a write that arrives late changes nothing', async () => {
  const { state } = await open()
  await state.keys.set({ session: { a: session('old') } })
  const late = service.requests.at(-1)
  await state.keys.set({ session: { a: session('new') } })
  const headers = { authorization: `Bearer ${TOKEN}`, 'keystore-epoch': late.epoch, 'keystore-seq': late.seq }
  const answer = await fetch(service.url + late.path, { method: late.method, headers, body: late.body })
  assert.equal(answer.status, 204)
  assert.deepEqual(service.value('session', 'a'), session('new'))
})

test('a caller waits for as long as its write does, also longer than retryForMs', async () => {
  const { state } = await open({ retryForMs: 1 })
  await service.stop()
  let settled = false
  const writing = state.keys.set({ session: { a: session('1') } }).finally(() => (settled = true))
  await wait(400)
  assert.equal(settled, false)
  await service.listen(service.port)
  await writing
  assert.deepEqual(service.value('session', 'a'), session('1'))
})

test('the same value set again joins the write that waits, also the one under way', async () => {
  const { state, saveCreds, stats } = await open()
  const release = service.hold()
  const keys = { session: { a: session('1'), b: null } }
  const writes = [state.keys.set(keys), saveCreds()]
  await eventually(() => service.received('POST', '/state').length === 1, 'the write is under way')
  writes.push(state.keys.set(keys), saveCreds(), state.keys.set({ session: { a: session('1') } }))
  assert.equal(stats().writesWaiting, 5)
  release()
  await Promise.all(writes)
  assert.equal(service.requests.length, 2)
  await state.keys.set(keys)
  assert.equal(service.requests.length, 3, 'a write that is stored is written again, which renews it')
})

for (const [name, answer] of [
  ['a maintenance page with 200', { status: 200, page: '<h1>Back soon</h1>' }],
  ['JSON with 200', { status: 200, page: '{"ok":true}' }],
  ['a redirect', { status: 301, page: '', headers: { location: '/sign-in' } }],
  ["a proxy's 401", { status: 401, page: 'Unauthorized' }],
  ["a proxy's 403", { status: 403, page: '<h1>Forbidden</h1>' }],
  ["a proxy's 404", { status: 404, page: '404 page not found' }],
  ["a gateway's problem of another type", { status: 409, page: '{"type":"about:blank","title":"lease-lost"}' }],
  ["a proxy's 413", { status: 413, page: '<h1>413 Request Entity Too Large</h1>' }]
]) {
  test(`only the service's own answer counts: ${name} means that it is away`, async () => {
    for (const end of ['/lease', '/state', '/keys', '/creds', '/keys/used']) service.fail(end, answer)
    const { state, saveCreds, close } = await open()
    await state.keys.set({ session: { a: session('1') } })
    await saveCreds()
    await state.keys.get('session', ['a'])
    await close()
    assert.deepEqual(service.value('session', 'a'), session('1'))
    assert.notEqual(service.creds, null)
    assert.deepEqual(service.used, [{ session: ['a'] }])
  })
}

for (const problem of [
  { status: 400, slug: 'invalid-input' },
  { status: 401, slug: 'unauthorized' },
  { status: 403, slug: 'forbidden' },
  { status: 413, slug: 'over-quota' }
]) {
  test(`a write that the service refuses (${problem.slug}) ends the account, loudly`, async () => {
    const failures = []
    const { state, saveCreds, close, stats } = await open({ onSaveFailed: error => failures.push(error) })
    await state.keys.set({ session: { a: session('1') } })
    const release = service.hold()
    const writes = [state.keys.set({ session: { a: session('2') } })]
    service.fail('/keys', problem)
    await eventually(() => service.received('POST', '/keys').length === 2, 'the write is under way')
    writes.push(state.keys.set({ session: { b: session('2') } }), saveCreds())
    release()
    for (const { reason } of await Promise.allSettled(writes)) {
      assert.ok(reason instanceof KeystoreRefused)
      assert.equal(reason.slug, problem.slug)
    }
    await assert.rejects(state.keys.set({ session: { c: session('3') } }), KeystoreRefused)
    await assert.rejects(saveCreds(), KeystoreRefused)
    assert.deepEqual(await state.keys.get('session', ['c']), {}, 'memory is unchanged')
    await eventually(() => failures.length > 0, 'onSaveFailed is called')
    await assert.rejects(close(), KeystoreRefused)
    assert.equal(failures.length, 1)
    assert.ok(stats().saveFailed && !stats().leaseLost)
    assert.match(stats().lastError, new RegExp(problem.slug))
    assert.deepEqual([...service.keys], [['session/a', session('1')]], 'the store has a consistent past')
    assert.equal(service.creds, null)
  })
}

test('a token that is revoked while nothing is written ends the account at the next renewal', async () => {
  const tick = takeTimeouts()
  const failures = []
  const { state } = await open({ onSaveFailed: error => failures.push(error) })
  service.fail('/lease', { status: 401, slug: 'unauthorized' })
  tick(20_100)
  await turns(() => failures.length === 1)
  await assert.rejects(state.keys.set({ session: { a: session('1') } }), KeystoreRefused)
})

for (const [name, value] of [
  ['half of a surrogate pair', { name: 'Ann \ud83d' }],
  ['the form of bytes', { $base64: 'not bytes' }],
  ['what looks like half of a surrogate pair', { name: '\\ud83d' }],
  ['nothing printable', { name: '\u0000\u2028\udfff' }]
]) {
  test(`whatever JSON expresses is stored to the byte: ${name}`, async () => {
    const first = await open()
    first.state.creds.me = value
    await Promise.all([first.saveCreds(), first.state.keys.set({ session: { a: value } })])
    await first.saveCreds()
    await first.close()
    const { state } = await open()
    assert.deepEqual(state.creds.me, value)
    assert.deepEqual((await state.keys.get('session', ['a'])).a, value)
  })
}

test('a full queue refuses a write, and memory stays unchanged', async () => {
  const { state, stats } = await open({ retryForMs: 60_000 })
  const release = service.hold()
  const large = 'x'.repeat(7 * 1024 * 1024)
  const writes = []
  for (let n = 0; n < 9; n += 1) {
    writes.push(state.keys.set({ session: { [n]: large } }))
    await new Promise(resolve => setImmediate(resolve))
  }
  await assert.rejects(state.keys.set({ session: { more: large } }), /9 writes wait/)
  assert.deepEqual(await state.keys.get('session', ['more']), {})
  release()
  await Promise.all(writes)
  assert.equal(service.keys.size, 9)
  assert.equal(stats().bytesWaiting, 0)
})

test('one turn of the event loop is one request, up to what a request may have', async () => {
  const { state, saveCreds } = await open()
  const mappings = from => Object.fromEntries(Array.from({ length: 9_999 }, (_, n) => [`${from + n}`, `${n}`]))
  const writes = [state.keys.set({ 'lid-mapping': mappings(0) }), saveCreds()]
  writes.push(state.keys.set({ session: { a: session('x'.repeat(9 * 1024 * 1024)) } }))
  await assert.rejects(state.keys.set({ session: { b: session('1') } }), /10001 keys of 2 types .* in several turns/)
  assert.deepEqual(await state.keys.get('session', ['b']), {})
  await Promise.all(writes)
  assert.deepEqual(service.requests.slice(1).map(({ path }) => path.split('/').at(-1)), ['state'])
  assert.equal(service.keys.size, 10_000)
  await assert.rejects(state.keys.set({ session: { b: 'x'.repeat(16 * 1024 * 1024) } }), /bytes in one turn/)
  await state.keys.set({ 'lid-mapping': mappings(50_000) })
  await state.keys.clear()
  assert.equal(service.keys.size, 0)
})

test('turns that wait are merged, but no turn is divided', async () => {
  const { state, saveCreds } = await open()
  const release = service.hold()
  const writes = [state.keys.set({ session: { first: session('1') } })]
  await eventually(() => service.received('POST', '/keys').length === 1, 'the first is under way')
  for (let turn = 0; turn < 20; turn += 1) {
    state.creds.nextPreKeyId = turn + 2
    writes.push(state.keys.set({ 'pre-key': { [turn]: 'x'.repeat(100_000) } }))
    writes.push(Promise.resolve().then(() => state.keys.set({ session: { [turn]: session('1') } })), saveCreds())
    await new Promise(resolve => setImmediate(resolve))
  }
  release()
  await Promise.all(writes)
  const sent = service.received('POST', '/state').map(({ body }) => JSON.parse(body).keys)
  assert.ok(sent.length > 1 && sent.length < 8, `${sent.length} requests`)
  for (const keys of sent) assert.deepEqual(Object.keys(keys['pre-key']), Object.keys(keys.session))
})

test('a value that JSON or the store cannot express is refused before any change', async () => {
  const { state } = await open()
  for (const data of [
    { session: { a: session('1'), '': session('2') } },
    { session: { a: session('1'), b: () => 1 } },
    { session: { a: session('1'), 'b\n': 1 } },
    { session: { a: session('1'), 'b\ud83d': 1 } },
    { session: { a: session('1'), ['x'.repeat(256)]: 1 } }
  ]) {
    await assert.rejects(state.keys.set(data), KeystoreError)
  }
  assert.deepEqual(await state.keys.get('session', ['a']), {})
  assert.equal(service.requests.length, 1)
})

test('clear puts every key into the trash in one call, and leaves creds', async () => {
  const { state, saveCreds, stats } = await open()
  await Promise.all([state.keys.set({ session: { a: session('1') }, 'pre-key': { 1: {} } }), saveCreds()])
  await state.keys.get('session', ['a'])
  await state.keys.clear()
  assert.equal(service.keys.size, 0)
  assert.deepEqual([...service.trash[0].keys()], ['session/a', 'pre-key/1'])
  assert.notEqual(service.creds, null)
  assert.deepEqual(await state.keys.get('session', ['a']), {})
  assert.deepEqual(service.requests.slice(1).map(({ method, path, seq }) => [method, path.split('/').at(-1), seq]), [
    ['POST', 'state', 1],
    ['DELETE', 'keys', 2]
  ])
  assert.deepEqual([stats().keys, stats().usesWaiting], [0, 0])
})

test('clear is done between the writes before and after it, also in one turn and after a lost answer', async () => {
  const { state } = await open()
  service.fail('/keys', { status: 503, slug: 'unavailable' }, 'lose', 'lose')
  await Promise.all([
    state.keys.set({ session: { a: session('1'), b: session('1') } }),
    state.keys.clear(),
    state.keys.set({ session: { b: session('1') } }),
    state.keys.clear(),
    state.keys.set({ session: { c: session('1') } })
  ])
  assert.deepEqual([...service.keys.keys()], ['session/c'])
  assert.deepEqual(service.trash.map(keys => [...keys.keys()]), [['session/a', 'session/b'], ['session/b']])
})

test('a database that went back while a clear waits gets the clear, then what was written since', async () => {
  const { state, stats } = await open()
  await state.keys.set({ session: { a: session('1') } })
  const backup = service.backup()
  await state.keys.set({ session: { a: session('2') } })
  service.putBack({ ...backup, lease: { ...backup.lease, expiresAt: 0 } })
  await Promise.all([state.keys.clear(), state.keys.set({ session: { b: session('1') } })])
  assert.equal(stats().databaseWentBack, 1)
  assert.deepEqual([...service.keys.keys()], ['session/b'])
  assert.deepEqual([...service.trash[0].keys()], ['session/a'])
})

const VALUES = {
  'pre-key': { 7: { private: Buffer.from([1]), public: Buffer.from([2]) }, 8: { private: Buffer.from([3]), public: Buffer.from([4]) } },
  session: { '49.0': session('x') },
  'sender-key': { '1-2@g.us::49::0': Buffer.from('[]') },
  'sender-key-memory': { '1-2@g.us': { '49:1@s.whatsapp.net': true } },
  'app-state-sync-key': { 'AA/A': proto.Message.AppStateSyncKeyData.fromObject({ keyData: Buffer.from([9]), timestamp: 5 }) },
  'app-state-sync-version': { regular: { version: 3, hash: Buffer.from([5]), indexValueMap: { 'a=': { valueMac: Buffer.from([6]) } } } },
  'lid-mapping': { 49: '2000', '2000_reverse': '49' },
  'device-list': { 49: ['0', '12'], '50': [] },
  tctoken: { '2000@lid': { token: Buffer.from([7]), timestamp: '1764200000', senderTimestamp: 3 }, __index: { token: Buffer.from('["2000@lid"]') } },
  'identity-key': { '49.0': Buffer.from([5, 1, 2]) }
}

test('every type of key of Baileys comes back as it was written, by a get and by a list', async () => {
  const first = await open()
  await first.state.keys.set(VALUES)
  await first.close()
  const { state, stats } = await open()
  for (const [type, byId] of Object.entries(VALUES)) {
    const listed = []
    for await (const entry of state.keys.list(type)) listed.push(entry)
    assert.deepEqual(Object.fromEntries(listed), byId)
    const ids = []
    for await (const id of state.keys.listIds(type)) ids.push(id)
    assert.deepEqual(ids.sort(), Object.keys(byId).sort())
    if (type === 'app-state-sync-key') assert.ok(listed[0][1] instanceof proto.Message.AppStateSyncKeyData)
  }
  assert.equal(stats().usesWaiting, 0)
  for (const [type, byId] of Object.entries(VALUES)) assert.deepEqual(await state.keys.get(type, Object.keys(byId)), byId)
})

test('a list goes on over deletions and a clear, and ends with close', async () => {
  const { state, close } = await open()
  await state.keys.set({ session: { a: 1, b: 2, c: 3 }, 'pre-key': { 1: {} } })
  const listed = state.keys.listIds('session')
  assert.equal((await listed.next()).value, 'a')
  await state.keys.set({ session: { b: null } })
  assert.equal((await listed.next()).value, 'c')
  const others = state.keys.list('pre-key')
  await state.keys.clear()
  assert.deepEqual(await others.next(), { done: true, value: undefined })
  assert.deepEqual(await state.keys.list('unknown').next(), { done: true, value: undefined })
  await close()
  await assert.rejects(state.keys.list('session').next(), KeystoreClosed)
})

/** Copies a state as Baileys' `migrateAuthState` does, by the two methods that no release has yet. */
async function migrate(from, to) {
  Object.assign(to.creds, from.creds)
  for (const type of Object.keys(VALUES)) {
    const present = new Set()
    for await (const id of to.keys.listIds?.(type) ?? []) present.add(id)
    for await (const [id, value] of from.keys.list(type)) if (!present.has(id)) await to.keys.set({ [type]: { [id]: value } })
  }
}

/** `list` of a folder of `useMultiFileAuthState`, which has none yet. */
function withList(folder, keys, decoded = id => id.replaceAll('--', '::').replace(/(?<=A)__/g, '/')) {
  return {
    ...keys,
    async *list(type) {
      for (const file of readdirSync(folder)) {
        const isMemory = file.startsWith('sender-key-memory-')
        if (!file.startsWith(`${type}-`) || isMemory !== (type === 'sender-key-memory')) continue
        const id = decoded(file.slice(type.length + 1, -'.json'.length))
        yield [id, (await keys.get(type, [id]))[id]]
      }
    }
  }
}

test('a state migrates to a folder of useMultiFileAuthState and back', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'keystore-migrate-'))
  try {
    const { state, saveCreds } = await open()
    await state.keys.set(VALUES)
    await saveCreds()
    const files = await useMultiFileAuthState(folder)
    await migrate(state, files.state)
    await files.saveCreds()
    await state.keys.clear()
    const { state: fromFiles } = await useMultiFileAuthState(folder)
    await state.keys.set({ 'pre-key': { 7: VALUES['pre-key'][7] } })
    await migrate({ ...fromFiles, keys: withList(folder, fromFiles.keys) }, state)
    await saveCreds()
    for (const [type, byId] of Object.entries(VALUES)) assert.deepEqual(await state.keys.get(type, Object.keys(byId)), byId)
    assert.equal(service.keys.size, Object.values(VALUES).flatMap(byId => Object.keys(byId)).length)
    assert.equal(service.creds.advSecretKey, state.creds.advSecretKey)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('transactions nested as Baileys nests them are one write', async () => {
  const { state, saveCreds } = await open()
  const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }
  const keys = addTransactionCapability(state.keys, silent, { maxCommitRetries: 10, delayBetweenTriesMs: 3 })
  await keys.transaction(async () => {
    await keys.set({ session: { a: session('1') }, 'pre-key': { 1: {} } })
    await keys.transaction(async () => {
      assert.deepEqual(await keys.get('session', ['a']), { a: session('1') })
      await keys.set({ session: { a: session('2') }, 'identity-key': { a: Buffer.from([5]) } })
    }, 'inner')
    assert.deepEqual(await state.keys.get('session', ['a']), {})
    void saveCreds()
  }, 'outer')
  assert.deepEqual(await state.keys.get('session', ['a']), { a: session('2') })
  await keys.transaction(() => keys.transaction(() => keys.set({ session: { b: null } }), 'inner'), 'outer')
  await assert.rejects(keys.transaction(async () => {
    await keys.set({ session: { a: session('3') } })
    await keys.transaction(() => Promise.reject(new Error('no')), 'inner')
  }, 'outer'), /no/)
  assert.deepEqual(service.value('session', 'a'), session('2'))
  assert.equal(service.received('POST', '/keys').length + service.received('POST', '/state').length, 2, 'creds too')
})

test('a Baileys that is handed in is the one that is used, also as the default export of CommonJS', async () => {
  const used = []
  const { BufferJSON, initAuthCreds } = baileys
  const fork = {
    initAuthCreds: () => (used.push('creds'), { ...initAuthCreds(), fork: true }),
    BufferJSON: { ...BufferJSON, replacer: (name, value) => (value === 'x' ? 'of the fork' : BufferJSON.replacer(name, value)) },
    proto: { Message: { AppStateSyncKeyData: { fromObject: value => (used.push('proto'), { value }) } } }
  }
  for (const handedIn of [fork, { default: fork }]) {
    const { state, close } = await open({ baileys: handedIn })
    assert.equal(state.creds.fork, true)
    await state.keys.set({ 'app-state-sync-key': { a: { keyData: 'x' } } })
    assert.deepEqual(await state.keys.get('app-state-sync-key', ['a']), { a: { value: { keyData: 'of the fork' } } })
    await close()
  }
  assert.deepEqual(used, ['creds', 'proto', 'creds', 'proto'])
})

test('a state that is wrapped in makeCacheableSignalKeyStore is warned about once, and no other one', async () => {
  const warned = []
  const logger = { warn: fields => warned.push(fields), trace() {}, debug() {}, error() {} }
  const { state } = await open({ logger })
  await state.keys.set({ session: { a: session('1'), b: session('2') } })
  const options = { maxCommitRetries: 10, delayBetweenTriesMs: 3 }
  await addTransactionCapability(state.keys, logger, options).get('session', ['a'])
  await state.keys.get('session', ['a'])
  assert.deepEqual(warned, [])
  const wrapped = addTransactionCapability(baileys.makeCacheableSignalKeyStore(state.keys, logger), logger, options)
  assert.deepEqual(await wrapped.get('session', ['a']), { a: session('1') })
  await wrapped.transaction(() => wrapped.get('session', ['b']), 'a')
  assert.deepEqual(warned.map(({ event, company }) => [event, company]), [['keystore_state_is_cached_twice', 'acme']])
})

test('a clear that is refused, or that comes after close, changes nothing', async () => {
  const { state, close } = await open()
  await state.keys.set({ session: { a: session('1') } })
  await close()
  await assert.rejects(state.keys.clear(), KeystoreClosed)
  assert.deepEqual([...service.keys.keys()], ['session/a'])
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
  service.lease = { holder: 'other', epoch: 2, seq: 0, expiresAt: LATER }
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

/** Returns the id of a process that is alive until the test ends, or of one that has ended. */
async function processId(test, isAlive) {
  const child = spawn(process.execPath, ['-e', isAlive ? 'setInterval(() => {}, 1000)' : ''], { stdio: 'ignore' })
  test.after(() => child.kill('SIGKILL'))
  if (!isAlive) await once(child, 'exit')
  return child.pid
}

test('a bot that crashed gets its lease back at once, with a new epoch', async t => {
  const dead = await processId(t, false)
  service.lease = { holder: `${hostname()}/one#${dead}`, epoch: 4, seq: 9, expiresAt: LATER }
  const { state, stats } = await open({ instance: 'one' })
  assert.equal(service.lease.holder, `${hostname()}/one#${process.pid}`)
  assert.equal(stats().epoch, 5)
  await state.keys.set({ session: { a: session('1') } })
  assert.deepEqual([service.requests.at(-1).epoch, service.requests.at(-1).seq], [5, 1])
})

test('a process of this machine that lives keeps its lease from its namesake', async t => {
  const alive = await processId(t, true)
  service.lease = { holder: `${hostname()}#${alive}`, epoch: 4, seq: 9, expiresAt: LATER }
  const refused = await open().catch(error => error)
  assert.ok(refused instanceof KeystoreLeaseHeld)
  assert.match(refused.message, new RegExp(`process ${alive} of this machine runs this account; end it, or wait`))
  const waiting = open({ waitForLease: true })
  await wait(150)
  process.kill(alive, 'SIGKILL')
  assert.equal((await waiting).stats().epoch, 5)
})

test('another holder learns who has the lease and until when', async () => {
  await open({ instance: 'one' })
  for (const instance of ['two', undefined]) {
    const refused = await open({ instance }).catch(error => error)
    assert.ok(refused instanceof KeystoreLeaseHeld)
    assert.equal(refused.holder, `${hostname()}/one#${process.pid}`)
    assert.ok(refused.expiresAt > new Date())
  }
  assert.equal(service.received('POST', '/lease').length, 3)
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
  await assert.rejects(older.close(), KeystoreLeaseLost)
  assert.equal(service.requests.length, requests, 'nothing is sent any more')
  assert.equal(lost.length, 1)
  assert.ok(older.stats().leaseLost)
  assert.deepEqual([...service.keys], [['session/a', session('newer')]])
  await newer.state.keys.set({ session: { a: session('newest') } })
})

test('a lease that ran out in an outage is renewed, however many answers are lost', async () => {
  for (let lost = 0; lost < 4; lost += 1) {
    const { state, stats, close } = await open()
    const { epoch } = stats()
    await state.keys.set({ session: { a: session('1') } })
    service.lease.expiresAt = 0
    service.fail('/keys', 'drop')
    service.fail('/lease', ...Array(lost).fill('lose'))
    await Promise.all([1, 2, 3].map(n => state.keys.set({ session: { [`b${n}`]: session(`${lost}`) } })))
    assert.deepEqual([stats().epoch, service.lease.epoch, service.lease.seq], [epoch, epoch, 2])
    assert.deepEqual(service.value('session', 'b3'), session(`${lost}`))
    await close()
  }
})

for (const [name, change] of [
  ['a successor that is alive has it', () => (service.lease = { holder: 'other', epoch: 2, seq: 0, expiresAt: LATER })],
  ['a successor had it', () => (service.lease = { holder: 'other', epoch: 2, seq: 0, expiresAt: 0 })],
  ['somebody wrote without a lease', () => Object.assign(service.lease, { holder: '', expiresAt: 0 })],
  ['the company was purged', () => (service.lease = { holder: '', epoch: 0, seq: 0, expiresAt: 0 })]
]) {
  test(`a lease that ran out is lost if ${name}`, async () => {
    const lost = []
    const { state } = await open({ onLeaseLost: error => lost.push(error) })
    await state.keys.set({ session: { a: session('1') } })
    change()
    const lease = { ...service.lease }
    await assert.rejects(state.keys.set({ session: { a: session('2') } }), KeystoreLeaseLost)
    assert.deepEqual(service.value('session', 'a'), session('1'))
    assert.deepEqual(service.lease, lease)
    await eventually(() => lost.length === 1, 'onLeaseLost is called')
  })
}

for (const [name, changeLease] of [
  ['under the same lease', lease => lease],
  ['from before the lease', lease => ({ ...lease, holder: 'an older bot', epoch: lease.epoch - 3 })],
  ['from just before the lease', lease => ({ ...lease, holder: '', epoch: lease.epoch - 1 })]
]) {
  for (const lost of [0, 3]) {
    test(`a database that went back gets the whole state as one write: ${name}, ${lost} answers lost`, async () => {
      const warned = []
      service.lease.epoch = 6
      const { state, saveCreds, stats, close } = await open({ logger: { warn: fields => warned.push(fields.event) } })
      await state.keys.set({ session: { a: session('1'), deleted: session('1') } })
      const backup = service.backup()
      backup.lease = changeLease({ ...backup.lease, expiresAt: 0 })
      await Promise.all([state.keys.set({ session: { a: session('2'), deleted: null, b: session('2') } }), saveCreds()])
      await state.keys.set({ 'sender-key': { g: session('3') } })
      service.putBack(backup)
      for (const end of ['/lease', '/state']) service.fail(end, ...Array(lost).fill('lose'))
      const before = service.requests.length
      await state.keys.set({ session: { c: session('4') } })
      assert.deepEqual(Object.fromEntries(service.keys), {
        'session/a': session('2'),
        'session/b': session('2'),
        'session/c': session('4'),
        'sender-key/g': session('3')
      })
      assert.equal(service.creds.registered, false)
      const numbers = service.requests.slice(before).filter(({ seq }) => seq !== undefined)
      assert.equal(new Set(numbers.map(({ epoch, seq }) => `${epoch} ${seq}`)).size, 2, 'the refused write and one more')
      assert.equal(stats().databaseWentBack, 1)
      assert.equal(warned.filter(event => event === 'keystore_database_went_back').length, 1)
      await state.keys.set({ session: { c: session('5') } })
      assert.deepEqual(service.value('session', 'c'), session('5'))
      await close()
    })
  }
}

test('a write notices that the database went back behind its back', async () => {
  const { state, stats } = await open()
  await state.keys.set({ session: { a: session('1') } })
  const backup = service.backup()
  await state.keys.set({ session: { a: session('2'), b: session('2') } })
  service.putBack(backup) // Between two renewals, and without a failed request: a service or a pooler reconnected.
  await state.keys.set({ session: { c: session('3') } })
  assert.deepEqual(Object.fromEntries(service.keys), {
    'session/a': session('2'),
    'session/b': session('2'),
    'session/c': session('3')
  })
  assert.equal(stats().databaseWentBack, 1)
})

test('a renewal notices that the database went back while nothing is written', async () => {
  const tick = takeTimeouts()
  const { state, stats } = await open()
  await state.keys.set({ session: { a: session('1') } })
  const backup = service.backup()
  await state.keys.set({ session: { a: session('2') } })
  service.putBack(backup)
  tick(20_100)
  await turns(() => service.value('session', 'a').version && stats().databaseWentBack === 1 && service.lease.seq === 3)
  assert.deepEqual(service.value('session', 'a'), session('2'))
})

test('the lease is renewed at a third of its life, which also detects its loss', async () => {
  const tick = takeTimeouts()
  const lost = []
  await open({ onLeaseLost: error => lost.push(error) })
  tick(19_900)
  assert.equal(service.received('POST', '/lease').length, 1)
  tick(200)
  await turns(() => service.received('POST', '/lease').length === 2)
  assert.equal(JSON.parse(service.requests.at(-1).body).epoch, 1)
  service.lease = { holder: 'other', epoch: 2, seq: 0, expiresAt: LATER }
  await turns(() => (tick(20_100), lost.length === 1))
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
  const warn = (...line) => texts.push(inspect(line))
  const { state, close, stats } = await open({ logger: { warn } })
  service.fail('/keys', { status: 503, slug: 'unavailable' }, { status: 404, page: 'HIDDEN' }, 'drop')
  await state.keys.set({ session: { a: 'HIDDEN' } })
  texts.push(inspect(await state.keys.set({ session: { 'b\n': 'HIDDEN' } }).catch(error => error), { depth: 9 }))
  texts.push(inspect(await state.keys.set({ session: { refused: 'HIDDEN' } }).catch(error => error), { depth: 9 }))
  texts.push(inspect(await close().catch(error => error), { depth: 9 }))
  texts.push(inspect({ keys: state.keys, close, stats: stats() }, { depth: 9, showHidden: true }))
  assert.ok(texts.length >= 8, texts)
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
