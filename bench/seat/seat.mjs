// A bot's side of the measurement, on one store: reads one request a line from standard input, and answers each with one
// line.
//
// Only the acts themselves are timed, as their callers wait for them; reading requests, checking, closing and writing
// answers are not. `program.py` is the other side.

import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { setImmediate } from 'node:timers/promises'
import { BufferJSON } from 'baileys'
import { STORES } from './stores.mjs'
import { look, textsOf, valuesOf } from './values.mjs'

const version = name => createRequire(import.meta.url)(`${name}/package.json`).version

// Accounts that are filled at the same time.
const AT_ONCE = 16

let store
const accounts = new Map()

// The account of a company, opened once for this process.
const account = async company => {
  if (!accounts.has(company)) accounts.set(company, await store.shared(company))
  return accounts.get(company)
}

const timed = async acts => {
  const ms = []
  for (const act of acts) {
    const began = performance.now()
    await act()
    ms.push(performance.now() - began)
  }
  return { ms }
}

const repeated = (times, act) => Array.from({ length: times }, () => act)

const all = async ({ state }, ids) => {
  const keys = {}
  for (const type in ids) keys[type] = await state.keys.get(type, ids[type])
  return keys
}

const heapBytes = async () => {
  for (let i = 0; i < 3; i++) {
    await setImmediate()
    gc()
  }
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

const acts = {
  open: async ({ kind, ...address }) => {
    store = STORES[kind](address)
    return { node: process.versions.node, baileys: version('baileys'), pg: version('pg') }
  },
  fill: async ({ companies, creds, keys }) => {
    const values = valuesOf(keys)
    const fill = async company => {
      const { state, saveCreds, close } = await store.shared(company)
      Object.assign(state.creds, JSON.parse(creds, BufferJSON.reviver))
      await saveCreds()
      await state.keys.set(values)
      await close()
    }
    while (companies.length > 0) await Promise.all(companies.splice(0, AT_ONCE).map(fill))
    return {}
  },
  set: async ({ company, sets }) => {
    const { state } = await account(company)
    const values = sets.map(valuesOf)
    return timed(values.map(keys => () => state.keys.set(keys)))
  },
  // Starts of a bot, each on a new connection.
  connect: async ({ company, ids, times }) => {
    const ms = []
    const opened_ms = []
    for (let time = 0; time < times; time++) {
      const began = performance.now()
      const state = await store.connect(company)
      opened_ms.push(performance.now() - began)
      await all(state, ids)
      ms.push(performance.now() - began)
      await state.close()
    }
    return { ms, opened_ms }
  },
  load: ({ company, ids, times }) => timed(repeated(times, async () => all(await store.shared(company), ids))),
  read: ({ keys, times }) => timed(repeated(times, () => valuesOf(keys))),
  write: ({ keys, times }) => {
    const values = valuesOf(keys)
    return timed(repeated(times, () => textsOf(values)))
  },
  // Each account writes a key, waits until it is durable, and writes the next, until the time is over.
  messages: async ({ companies, keys, for_ms }) => {
    const states = await Promise.all(companies.map(account))
    const writes = Object.entries(valuesOf(keys).session).map(([id, value]) => ({ session: { [id]: value } }))
    let messages = 0
    const took = await timed([
      async () => {
        const until = performance.now() + for_ms
        const run = async ({ state }, first) => {
          for (let number = first; performance.now() < until; number++) {
            await state.keys.set(writes[number % writes.length])
            messages += 1
          }
        }
        await Promise.all(states.map(run))
      }
    ])
    return { ...took, messages }
  },
  // The memory of accounts that have loaded their state, without that of the first ones, which Node and its libraries use.
  memory: async ({ first, companies }) => {
    await Promise.all(first.map(account))
    const before = await heapBytes()
    await Promise.all(companies.map(account))
    return { bytes: (await heapBytes()) - before }
  },
  look: async ({ company, ids }) => look(await all(await account(company), ids)),
  'look at': async ({ keys }) => look(valuesOf(keys))
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  let answer
  try {
    answer = await acts[request.act](request)
  } catch (error) {
    answer = { error: error.code ?? error.name }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
process.exit()
