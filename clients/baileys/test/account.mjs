/** Accounts on the small service, for one test between `begin` and `end`. */
import assert from 'node:assert/strict'
import { setTimeout as wait } from 'node:timers/promises'

import { useKeystoreAuthState } from '../dist/index.js'
import { FakeService, TOKEN } from './service.mjs'

export let service
let opened

export async function begin() {
  service = await FakeService.start()
  opened = []
}

/** Closes every account that was opened. */
export async function end() {
  for (const auth of opened) await auth.close().catch(() => {})
  await service.stop().catch(() => {})
}

export async function open(options = {}) {
  const auth = await useKeystoreAuthState({
    url: service.url,
    token: TOKEN,
    company: 'acme',
    connectForMs: 2_000,
    retryForMs: 2_000,
    ...options
  })
  opened.push(auth)
  return auth
}

export async function eventually(condition, description) {
  for (let left = 500; left > 0; left -= 1) {
    if (condition()) return
    await wait(10)
  }
  assert.fail(`not within 5 s: ${description}`)
}

export const session = text => ({ _sessions: { a: { chain: text } }, version: 'v1' })
