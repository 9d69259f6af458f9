/**
 * Writes the real state through the adapters' own code, over drivers in memory, and dumps what reached the drivers.
 *
 * `node write.mjs STATE CREDS FOLDER`: STATE has lines of {type, id, value}, CREDS is a JSON file. In FOLDER each dump is
 * as the database's own tools write it. Standard output is a JSON object with the number of keys that each adapter took.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(import.meta.url)
const { BufferJSON, useMultiFileAuthState } = await import('baileys')
const [stateFile, credsFile, folder] = process.argv.slice(2)
const revived = text => JSON.parse(text, BufferJSON.reviver)
const rows = readFileSync(stateFile, 'utf8').trim().split('\n').map(revived)
const taken = {}

/** Fills an adapter's state, type by type, as Baileys does. */
async function fill({ state, saveCreds }) {
  for (const name of Object.keys(state.creds)) delete state.creds[name]
  Object.assign(state.creds, revived(readFileSync(credsFile, 'utf8')))
  await saveCreds()
  for (const { type, id, value } of rows) await state.keys.set({ [type]: { [id]: value } })
}

const lines = (name, documents, text = JSON.stringify) =>
  writeFileSync(join(folder, name), documents.map(document => `${text(document)}\n`).join(''))

// Baileys' own folder.
await fill(await useMultiFileAuthState(join(folder, 'multi-file')))

// mysql-baileys: two statements reach MySQL.
const table = new Map()
const connection = {
  execute: async () => [[]],
  query: async (sql, values) => {
    if (sql.startsWith('INSERT')) table.set(values[1], { session: values[0], id: values[1], value: values[2] })
    return [sql.startsWith('SELECT') && table.has(values[0]) ? [table.get(values[0])] : []]
  }
}
require('mysql2/promise')
require.cache[require.resolve('mysql2/promise')].exports = { createConnection: async () => connection }
await fill(await require('mysql-baileys').useMySQLAuthState({ session: 'bot-1', password: '' }))
lines('mysql.jsonl', [...table.values()])
taken.mysql = table.size - 1

// mongo-baileys: documents reach MongoDB as BSON, and mongoexport writes extended JSON.
const { BSON } = require('mongodb')
const { EJSON } = BSON
const documents = new Map()
const collection = {
  findOne: async ({ _id }) => documents.get(_id) ?? null,
  deleteOne: async ({ _id }) => documents.delete(_id),
  updateOne: async ({ _id }, { $set }) => {
    const stored = BSON.deserialize(BSON.serialize({ $set }), { promoteBuffers: false, promoteValues: false }).$set
    // MongoDB's own refusal: a value that is a text, a list or bytes has no fields.
    if (typeof stored !== 'object' || Array.isArray(stored) || stored._bsontype === 'Binary')
      throw new Error('Modifiers operate on fields')
    documents.set(_id, { _id, ...documents.get(_id), ...stored })
  }
}
const consoleError = console.error
console.error = () => {}
await fill(await require('mongo-baileys').useMongoDBAuthState(collection))
console.error = consoleError
lines('mongo-relaxed.jsonl', [...documents.values()], document => EJSON.stringify(document, { relaxed: true }))
lines('mongo-canonical.jsonl', [...documents.values()], document => EJSON.stringify(document, { relaxed: false }))
taken.mongo = documents.size - 1

// whatsapp-store-db: Prisma's model Session.
const sessions = new Map()
const session = {
  updateMany: async ({ data, where }) => {
    const row = sessions.get(where.id)
    if (row) Object.assign(row, data)
    return { count: row ? 1 : 0 }
  },
  create: async ({ data }) => sessions.set(data.id, { pkId: sessions.size + 1, ...data }),
  findUnique: async ({ where }) => sessions.get(where.sessionId_id.id) ?? null,
  delete: async ({ where }) => sessions.delete(where.sessionId_id.id)
}
const silent = { info() {}, debug() {}, error() {}, warn() {}, trace() {} }
const shared = require('whatsapp-store-db/dist/shared.js')
shared.setPrisma({ session })
shared.setLogger(silent)
await fill(await require('whatsapp-store-db/dist/session.js').useSession('bot-1'))
lines('prisma.jsonl', [...sessions.values()])
taken.prisma = sessions.size - 1

// @rodrigogs/baileys-store over Keyv, which puts each value into an envelope.
const { makeKeyvAuthState, Keyv } = require('@rodrigogs/baileys-store')
const entries = new Map()
await fill(await makeKeyvAuthState(new Keyv({ store: entries, namespace: 'keyv' }), 'bot-1'))
writeFileSync(join(folder, 'keyv.json'), JSON.stringify(Object.fromEntries(entries)))
taken.keyv = entries.size - 1

console.log(JSON.stringify(taken))
