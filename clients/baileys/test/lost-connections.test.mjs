/** Connections straight on PostgreSQL that are open and pass nothing on, as after a network was cut. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { KeystoreUnavailable } from '../dist/index.js'
import { readAddress } from '../dist/postgres/address.js'
import { Connections } from '../dist/postgres/connections.js'
import { ANSWER_TIMEOUT_MS } from '../dist/transport.js'
import { Relay } from './relay.mjs'

/** The address of a bot of the company acme. */
const { KEYSTORE_TEST_BOT } = process.env

test('idle connections are given up too when one gives no answer', { skip: !KEYSTORE_TEST_BOT, timeout: 30_000 }, async t => {
  const { hostname, port, href } = new URL(KEYSTORE_TEST_BOT)
  const relay = await Relay.start({ host: hostname, port: Number(port) })
  const connections = new Connections(readAddress(href.replace(`:${port}`, `:${relay.port}`)), 3)
  t.after(() => relay.stop())
  t.after(() => connections.close())
  const ask = () => connections.call('keystore_bot_get', '* FROM', ['acme', 'session', ['a']])
  const askThree = () => Promise.all([ask(), ask(), ask()])
  await askThree()
  await askThree()

  relay.hush()
  const giveUp = takeTimeout(ANSWER_TIMEOUT_MS)
  const lost = ask()
  ;(await giveUp)()
  await assert.rejects(lost, KeystoreUnavailable)
  assert.deepEqual(await askThree(), [[], [], []])
})

/** Returns the action of the next timeout of this length, in place of running it. */
function takeTimeout(length) {
  const { setTimeout } = globalThis
  return new Promise(resolve => {
    globalThis.setTimeout = (action, ms, ...args) => {
      if (ms !== length) return setTimeout(action, ms, ...args)
      globalThis.setTimeout = setTimeout
      resolve(action)
    }
  })
}
