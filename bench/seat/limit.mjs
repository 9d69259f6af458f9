// The least that a client must do for the same promise: one query reads creds and keys when it connects, later reads
// come from memory, and a write is one prepared upsert. It has no lease, number of a write, expiry rule or retry.
//
// The tables are the store's own, in a database of their own.

import { initAuthCreds, BufferJSON } from 'baileys'
import { textOf, valueOf } from './values.mjs'

const LOAD = `SELECT key_type, key_id, value FROM whatsapp_keys WHERE company_id = $1
  UNION ALL SELECT NULL, NULL, creds FROM whatsapp_auth WHERE company_id = $1`

const UPSERT = {
  name: 'upsert',
  text: `INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
    SELECT $1, t, i, convert_to(v, 'UTF8'), now(), now(), date_trunc('day', now()) + interval '8 days'
    FROM unnest($2::text[], $3::text[], $4::text[]) AS r (t, i, v)
    ON CONFLICT (company_id, key_type, key_id) DO UPDATE
    SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at`
}

const UPSERT_CREDS = {
  name: 'upsert creds',
  text: `INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at) VALUES ($1, convert_to($2, 'UTF8'), now(), now())
    ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds, updated_at = excluded.updated_at`
}

export const useLimitAuthState = async (client, company) => {
  const memory = new Map()
  const keysOf = type => memory.get(type) ?? memory.set(type, new Map()).get(type)
  let creds = initAuthCreds()
  const { rows } = await client.query({ text: LOAD, values: [company], binary: true, rowMode: 'array' })
  for (const [type, id, value] of rows) {
    if (type === null) creds = JSON.parse(value.toString(), BufferJSON.reviver)
    else keysOf(type).set(id, value.toString())
  }
  return {
    state: {
      creds,
      keys: {
        get: async (type, ids) => {
          const values = {}
          for (const id of ids) {
            const text = keysOf(type).get(id)
            if (text !== undefined) values[id] = valueOf(type, text)
          }
          return values
        },
        set: async data => {
          const types = [], ids = [], texts = []
          for (const [type, values] of Object.entries(data)) {
            for (const [id, value] of Object.entries(values)) {
              const text = textOf(value)
              keysOf(type).set(id, text)
              types.push(type)
              ids.push(id)
              texts.push(text)
            }
          }
          await client.query({ ...UPSERT, values: [company, types, ids, texts] })
        }
      }
    },
    saveCreds: async () => {
      await client.query({ ...UPSERT_CREDS, values: [company, textOf(creds)] })
    }
  }
}
