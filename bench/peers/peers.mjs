// The peers' side of the measurement: reads one request a line from standard input, and answers each with one line.
//
// Only the acts themselves are timed, as their callers wait for them; reading requests, checking and writing answers
// are not. `node.py` is the other side.

import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { BufferJSON, proto, useMultiFileAuthState } from 'baileys'
import pg from 'pg'
import { useLegacyAuthState } from './legacy.mjs'

const version = name => createRequire(import.meta.url)(`${name}/package.json`).version

let pool, folder, keysPerInsert

const authStateOf = {
  legacy: company => useLegacyAuthState(pool, company, keysPerInsert),
  files: company => useMultiFileAuthState(join(folder, company))
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

const valueOf = (type, text) => {
  const value = JSON.parse(text, BufferJSON.reviver)
  return type === 'app-state-sync-key' ? proto.Message.AppStateSyncKeyData.fromObject(value) : value
}

const valuesOf = texts => {
  const keys = {}
  for (const [type, byId] of Object.entries(texts)) {
    keys[type] = {}
    for (const [id, text] of Object.entries(byId)) keys[type][id] = valueOf(type, text)
  }
  return keys
}

const textsOf = keys =>
  Object.values(keys).map(byId => Object.values(byId).map(value => JSON.stringify(value, BufferJSON.replacer)))

const loaded = async (who, company, ids) => {
  const { state } = await authStateOf[who](company)
  const keys = {}
  for (const type in ids) keys[type] = await state.keys.get(type, ids[type])
  return keys
}

// Names in order and bytes as base64: jsonb does not keep the order of names, and Buffers have several forms.
const normal = value => {
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString('base64') }
  if (Array.isArray(value)) return value.map(normal)
  if (typeof value?.toJSON === 'function') return normal(value.toJSON())
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.keys(value).sort().map(name => [name, normal(value[name])]))
}

const look = keys => {
  const rows = []
  for (const type in keys) {
    for (const id in keys[type]) if (keys[type][id]) rows.push(JSON.stringify([type, id, normal(keys[type][id])]))
  }
  return { keys: rows.length, digest: createHash('sha256').update(rows.sort().join('\n')).digest('hex') }
}

const acts = {
  open: async request => {
    pool = new pg.Pool({ connectionString: request.url })
    folder = request.folder
    keysPerInsert = request.keys_per_insert
    return { node: process.versions.node, baileys: version('baileys'), pg: version('pg') }
  },
  creds: async ({ who, company, creds }) => {
    const { state, saveCreds } = await authStateOf[who](company)
    Object.assign(state.creds, JSON.parse(creds, BufferJSON.reviver))
    await saveCreds()
    return {}
  },
  set: async ({ who, company, sets }) => {
    const { state } = await authStateOf[who](company)
    const values = sets.map(valuesOf)
    return timed(values.map(keys => () => state.keys.set(keys)))
  },
  load: ({ who, company, ids, times }) => timed(repeated(times, () => loaded(who, company, ids))),
  read: ({ keys, times }) => timed(repeated(times, () => valuesOf(keys))),
  write: ({ keys, times }) => {
    const values = valuesOf(keys)
    return timed(repeated(times, () => textsOf(values)))
  },
  look: async ({ who, company, ids }) => look(await loaded(who, company, ids)),
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
await pool?.end()
