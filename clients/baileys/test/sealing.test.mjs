/** A client that seals its values: the format, what the store sees, what can't be read, and how all of it becomes sealed. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'

import { KeystoreError } from '../dist/index.js'
import { Sealer } from '../dist/sealing.js'
import { begin, end, eventually, open as openAccount, service, session } from './account.mjs'

const VECTORS = JSON.parse(readFileSync(new URL('../../../rig/data/sealed_values.json', import.meta.url), 'utf8'))
const bytes = text => Buffer.from(text, 'base64')
const key = first => Buffer.from(Array.from({ length: 32 }, (_, n) => first + n))
const [FIRST, SECOND] = [key(0), key(100)]
const LEASE_AND_STATE = '/lease'

let warnings

beforeEach(async () => {
  await begin()
  warnings = []
})

afterEach(end)

const open = options => openAccount({ logger: { warn: fields => warnings.push(fields) }, ...options })

/** Opens a value that the service has; undefined if it isn't sealed, or doesn't open with this key. */
function openedFrom(name, secretKey) {
  const [type, id] = name === 'creds' ? ['', ''] : name.split('/')
  const value = name === 'creds' ? service.creds : service.value(type, id)
  if (value?.$base64 === undefined) return undefined
  return new Sealer('acme', [secretKey]).open(type, id, bytes(value.$base64))?.toString()
}

const isSealedBy = secretKey => [...service.keys.keys(), 'creds'].every(name => openedFrom(name, secretKey) !== undefined)
const writes = () => service.requests.filter(({ method, path }) => method !== 'DELETE' && !path.endsWith('/lease'))
const listed = async keys => {
  const all = [[], []]
  for await (const id of keys.listIds('session')) all[0].push(id)
  for await (const [id] of keys.list('session')) all[1].push(id)
  return all
}

test('the vectors of the format: what is to open opens and seals to the same bytes, and nothing else opens', () => {
  for (const vector of VECTORS.opens) {
    const sealer = new Sealer(vector.company, [bytes(vector.key)])
    const sealed = sealer.seal(vector.type, vector.id, bytes(vector.value), Buffer.from(vector.nonce, 'hex'))
    assert.equal(sealed.toString('base64'), vector.sealed, vector.note)
    assert.deepEqual(sealer.open(vector.type, vector.id, bytes(vector.sealed)), bytes(vector.value), vector.note)
  }
  for (const vector of VECTORS.pre_keys) {
    const sealed = new Sealer(vector.company, [bytes(vector.key)]).seal('pre-key', vector.id, bytes(vector.value))
    assert.equal(sealed.toString('base64'), vector.sealed, vector.note)
  }
  for (const vector of VECTORS.refused) {
    const sealer = new Sealer(vector.company, [bytes(vector.key)])
    assert.equal(sealer.open(vector.type, vector.id, bytes(vector.sealed)), undefined, vector.note)
  }
})

test('a pre-key has the same sealed form each time, and another one under another id or key; all else never has', () => {
  const [sealer, other] = [new Sealer('acme', [FIRST]), new Sealer('acme', [SECOND])]
  const value = Buffer.from('{"private":1}')
  const seal = (type, id, by = sealer) => by.seal(type, id, value).toString('hex')
  assert.equal(seal('pre-key', '1'), seal('pre-key', '1'))
  const nonces = [seal('pre-key', '1'), seal('pre-key', '2'), seal('pre-key', '1', other)].map(sealed => sealed.slice(18, 42))
  assert.equal(new Set(nonces).size, 3)
  assert.notDeepEqual(sealer.seal('pre-key', '1', Buffer.from('2{}')), sealer.seal('pre-key', '12', Buffer.from('{}')))
  for (const type of ['session', '']) assert.notEqual(seal(type, '1'), seal(type, '1'))
})

test('both spellings of a company are one', () => {
  const sealed = new Sealer('company_company_962302', [FIRST]).seal('session', 'a', Buffer.from('{}'))
  assert.deepEqual(new Sealer('962302', [FIRST]).open('session', 'a', sealed), Buffer.from('{}'))
})

test('a secret key is taken in each of its spellings', async () => {
  const odd = Buffer.from(Array.from({ length: 32 }, (_, n) => 251 - n))
  const text = odd.toString('base64')
  let auth = await open({ secretKey: odd })
  await auth.saveCreds()
  for (const secretKey of [text, text.replace('=', ''), odd.toString('base64url'), ` ${text}\n`, new Uint8Array(odd), [text], [FIRST, odd], `${FIRST.toString('base64')}, ${text}`]) {
    await auth.close()
    auth = await open({ secretKey })
  }
})

test('a bad secret key is one error that does not show it, before anything is asked of the service', async () => {
  const bad = ['', ' ', undefined, null, 5, [], [FIRST, undefined], 'S3CRET', FIRST.subarray(1), 'A'.repeat(43), `${FIRST.toString('base64')}!`, [FIRST, FIRST.toString('base64')]]
  for (const secretKey of bad) {
    await assert.rejects(open({ secretKey }), error => {
      assert.ok(error instanceof KeystoreError && error.message.startsWith('secretKey: '), error)
      for (const part of [secretKey].flat()) assert.ok(typeof part !== 'string' || part.length < 3 || !error.message.includes(part))
      return true
    })
  }
  assert.deepEqual(service.requests, [])
})

test('the service sees sealed values only, but for mappings, and a restarted bot reads them', async () => {
  const first = await open({ secretKey: FIRST })
  const keys = { 'pre-key': { 7: { private: Buffer.from('SECRET') } }, session: { 'a.0': session('SECRET') }, 'sender-key': { g: Buffer.from('[]') } }
  await first.state.keys.set({ ...keys, 'lid-mapping': { 123: '456' } })
  await first.saveCreds()
  await first.close()
  for (const { body } of service.requests) assert.doesNotMatch(body, /SECRET|U0VDUkVU|noiseKey/)
  assert.equal(service.value('lid-mapping', '123'), '456')
  assert.deepEqual(JSON.parse(openedFrom('session/a.0', FIRST)), session('SECRET'))
  const { state, stats } = await open({ secretKey: FIRST })
  assert.deepEqual(state.creds.noiseKey.public, Buffer.from(first.state.creds.noiseKey.public))
  for (const type in keys) assert.deepEqual(await state.keys.get(type, Object.keys(keys[type])), keys[type])
  assert.deepEqual(await state.keys.get('lid-mapping', ['123']), { 123: '456' })
  assert.deepEqual([stats().sealing, stats().unreadable, warnings], [0, 0, []])
})

test('without the key, or with another one, no account opens: one error says which key it is, and the lease is free again', async () => {
  const first = await open({ secretKey: FIRST })
  await first.state.keys.set({ session: { a: session('x') } })
  await first.saveCreds()
  await first.close()
  const id = bytes(service.creds.$base64).toString('hex', 1, 9)
  const stored = JSON.stringify([service.creds, ...service.keys])
  const before = writes().length
  for (const [options, advice] of [[{}, /option secretKey is missing/], [{ secretKey: SECOND }, /put that key there, behind the newest/]]) {
    await assert.rejects(open(options), error => {
      assert.ok(error instanceof KeystoreError)
      assert.match(error.message, advice)
      assert.ok(error.message.includes(id) && error.message.startsWith('acme: '))
      return true
    })
    assert.equal(service.lease.holder, '', 'the lease was released')
  }
  assert.equal(writes().length, before)
  assert.equal(JSON.stringify([service.creds, ...service.keys]), stored)
})

test("creds that don't open or parse are an error that shows nothing of them", async () => {
  const strange = new Sealer('other', [FIRST]).seal('', '', Buffer.from('{"noiseKey":"SECRET"}'))
  const broken = new Sealer('acme', [FIRST]).seal('', '', Buffer.from('{"noiseKey":"SECRET'))
  for (const [creds, options] of [[strange, { secretKey: FIRST }], [broken, { secretKey: FIRST }], [Buffer.from('{"noiseKey":"SECRET'), {}]]) {
    service.creds = { $base64: creds.toString('base64') }
    await assert.rejects(open(options), error => {
      assert.ok(error instanceof KeystoreError)
      assert.match(error.message, /^acme: its creds can't be read/)
      assert.doesNotMatch(error.message, /SECRET/)
      return true
    })
    assert.equal(service.lease.holder, '')
  }
})

/** Stores an account with values that can't be read, beside some that can. Returns the names of the former. */
async function withUnreadable() {
  const first = await open({ secretKey: FIRST })
  await first.state.keys.set({ session: { a: session('a'), b: session('b'), c: session('c'), d: session('d') }, 'sender-key': { a: session('s') } })
  await first.saveCreds()
  await first.close()
  const { keys } = service
  const [a, b] = ['session/a', 'session/b'].map(name => keys.get(name))
  keys.set('session/a', b).set('session/b', a) // Two ids.
  keys.set('sender-key/a', keys.get('session/c')) // Two types.
  keys.set('session/other', { $base64: new Sealer('other', [FIRST]).seal('session', 'other', Buffer.from('{}')).toString('base64') })
  const changed = bytes(keys.get('session/d').$base64)
  changed[0] = 2
  keys.set('session/d', { $base64: changed.toString('base64') })
  keys.set('session/cut', { $base64: Buffer.from('{"a":').toString('base64') })
  keys.set('session/cut inside', { $base64: new Sealer('acme', [FIRST]).seal('session', 'cut inside', Buffer.from('{"a":')).toString('base64') })
  return ['session/a', 'session/b', 'sender-key/a', 'session/other', 'session/d', 'session/cut', 'session/cut inside']
}

test("values that don't open or parse are left out, named once and kept, also when the database went back", async () => {
  const unreadable = await withUnreadable()
  const { state, stats } = await open({ secretKey: FIRST, leaseTtlS: 5 })
  const ids = ['a', 'b', 'c', 'd', 'other', 'cut', 'cut inside']
  for (let times = 2; times > 0; times -= 1) {
    assert.deepEqual(await state.keys.get('session', ids), { c: session('c') })
    assert.deepEqual(await state.keys.get('sender-key', ['a']), {})
    assert.deepEqual(await listed(state.keys), [['c'], ['c']])
  }
  assert.deepEqual(warnings.map(({ event, company, type, id }) => [event, company, `${type}/${id}`]).sort(), unreadable.map(name => ['keystore_value_unreadable', 'acme', name]).sort())
  assert.doesNotMatch(JSON.stringify(warnings), /_sessions|base64/)
  assert.equal(stats().unreadable, unreadable.length)
  assert.equal(stats().sealing, 0)

  const backup = service.backup()
  await state.keys.set({ session: { later: session('l') } })
  service.putBack({ ...backup, keys: new Map([...backup.keys, ['session/older', session('older')]]) })
  await state.keys.set({ session: { last: session('l') } })
  await eventually(() => stats().databaseWentBack === 1 && stats().writesWaiting === 0, 'the whole state is written')
  for (const name of unreadable) assert.deepEqual(service.keys.get(name), backup.keys.get(name), name)
  assert.equal(service.keys.has('session/older'), false, 'what can be read and memory lacks is deleted')
  assert.deepEqual([...service.keys.keys()].filter(name => !unreadable.includes(name)).sort(), ['session/c', 'session/last', 'session/later'])
  assert.equal(stats().unreadable, unreadable.length)
  assert.equal(warnings.filter(({ event }) => event === 'keystore_value_unreadable').length, unreadable.length)

  await state.keys.set({ session: { a: session('new'), b: null } })
  assert.equal(stats().unreadable, unreadable.length - 2)
  assert.deepEqual((await state.keys.get('session', ['a', 'b'])), { a: session('new') })
})

test('a value whose JSON is broken is left out without a secret key too', async () => {
  service.keys.set('session/cut', { $base64: Buffer.from('{"a":').toString('base64') })
  service.keys.set('session/a', session('a'))
  const { state, stats } = await open()
  assert.deepEqual(await state.keys.get('session', ['a', 'cut']), { a: session('a') })
  assert.equal(stats().unreadable, 1)
  assert.deepEqual(warnings.map(({ type, id }) => `${type}/${id}`), ['session/cut'])
})

test('an account in clear is sealed at its start, in parts, while the bot writes; then a new key takes over', async () => {
  const plain = await open()
  const many = Object.fromEntries(Array.from({ length: 721 }, (_, n) => [`${n}`, session(`${n}`)]))
  await plain.state.keys.set({ session: many, 'pre-key': { 1: { a: 1 } }, 'lid-mapping': { 1: '2' } })
  await plain.saveCreds()
  await plain.close()

  for (const secretKey of [FIRST, [SECOND, FIRST], [SECOND]]) {
    const newest = [secretKey].flat()[0]
    const before = writes().length
    const release = service.hold()
    const opening = open({ secretKey })
    await eventually(() => service.received('POST', LEASE_AND_STATE).length > 0, 'the lease is asked for')
    release()
    const { state, stats, close } = await opening
    const waiting = stats().sealing
    await Promise.all([state.keys.set({ session: { 5: session('new'), 6: null } }), state.keys.set({ session: { 6: session('6') } })])
    await eventually(() => stats().sealing === 0, 'everything is sealed')
    service.keys.delete('lid-mapping/1')
    assert.ok(isSealedBy(newest))
    service.keys.set('lid-mapping/1', '2')
    assert.deepEqual(JSON.parse(openedFrom('session/5', newest)), session('new'))
    const sent = writes().slice(before).filter(({ path }) => !path.endsWith('/heartbeat') && !path.endsWith('/used'))
    if (newest === FIRST || secretKey.length === 2) {
      assert.equal(waiting, 723)
      assert.ok(sent.length >= 4, 'in parts')
    } else {
      assert.equal(waiting, 0, 'nothing is sealed twice')
      assert.equal(sent.length, 1)
    }
    assert.ok(sent.every(({ epoch, seq }) => epoch && seq), 'each has a number')
    await close()
  }
})

test('without a lease nothing is sealed but what is written', async () => {
  service.keys.set('session/a', session('a')).set('session/b', session('b'))
  const { state, stats } = await open({ secretKey: FIRST, lease: false })
  await state.keys.set({ session: { b: session('b') } })
  await wait(50)
  assert.deepEqual(service.value('session', 'a'), session('a'))
  assert.deepEqual(JSON.parse(openedFrom('session/b', FIRST)), session('b'))
  assert.equal(stats().sealing, 1)
})

test('a write that is sent again has the same bytes', async () => {
  const { state } = await open({ secretKey: FIRST })
  service.fail('/keys', 'lose', 'drop', { status: 503, slug: 'unavailable' })
  await state.keys.set({ session: { a: session('a') } })
  const sent = service.received('POST', '/keys')
  assert.equal(sent.length, 4)
  assert.equal(new Set(sent.map(({ body }) => body)).size, 1)
})

test('keys that were swept while they were used are written again, sealed', async () => {
  const { state, close } = await open({ secretKey: FIRST })
  await state.keys.set({ session: { a: session('a') } })
  await state.keys.get('session', ['a'])
  service.keys.clear()
  service.fail('/keys', 'lose')
  await close()
  assert.deepEqual(JSON.parse(openedFrom('session/a', FIRST)), session('a'))
  const sent = service.received('POST', '/keys').slice(-2)
  assert.equal(sent[0].body, sent[1].body)
  assert.equal(sent[0].seq, sent[1].seq)
})

test('the size of a write is that of its sealed form', async () => {
  const { state, stats } = await open({ secretKey: FIRST })
  const release = service.hold()
  const waiting = state.keys.set({ session: { a: 'x'.repeat(300_000) }, 'lid-mapping': { 1: 'y'.repeat(1_000) } })
  const size = stats().bytesWaiting
  release()
  await waiting
  const [{ body }] = service.received('POST', '/keys')
  assert.ok(Math.abs(size - body.length) < 100, `${size} against ${body.length}`)
  const fits = 'x'.repeat(15 * 1024 * 1024 * 0.75 - 200)
  await state.keys.set({ session: { a: fits } })
  await assert.rejects(state.keys.set({ session: { a: `${fits}${'x'.repeat(200)}` } }), KeystoreError)
  const parts = Array.from({ length: 3 }, (_, n) => state.keys.set({ [`t${n}`]: { a: 'x'.repeat(9 * 1024 * 1024) } }))
  for (const part of parts.slice(1)) await assert.rejects(part, /in one turn of the event loop/)
  await parts[0]
})
