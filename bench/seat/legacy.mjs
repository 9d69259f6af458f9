// The legacy adapter: a plain pg adapter as the bots of the original operator had it. Values are jsonb, each key type
// is a query, and a set is INSERTs of many rows.
//
// Those bots wrote 100 keys in an INSERT; most published adapters for Baileys work the same way with one key in each.
// Buffers are written through BufferJSON's replacer. When they are read, pg has already parsed the jsonb, so it is made
// text again for the reviver. Deletions are left out, since nothing here deletes.

import { BufferJSON, initAuthCreds, proto } from 'baileys'

const DAY_MS = 24 * 60 * 60 * 1000
const WEEK_TYPES = new Set(['lid-mapping', 'pre-key', 'session', 'sender-key'])

const COLUMNS = 6

const written = value => JSON.stringify(value, BufferJSON.replacer)
const revived = value => JSON.parse(JSON.stringify(value), BufferJSON.reviver)

const upsert = rows => {
  const places = Array.from({ length: rows }, (_, row) => {
    const first = row * COLUMNS
    return `($${first + 1}, $${first + 2}, $${first + 3}, $${first + 4}, $${first + 5}, $${first + 6})`
  })
  return `INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, updated_at, expires_at)
    VALUES ${places.join(', ')}
    ON CONFLICT (company_id, key_type, key_id) DO UPDATE
    SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at`
}

export const useLegacyAuthState = async (pool, companyId, keysPerInsert) => {
  const { rows } = await pool.query('SELECT creds FROM whatsapp_auth WHERE company_id = $1', [companyId])
  const creds = rows.length ? revived(rows[0].creds) : initAuthCreds()
  return {
    state: {
      creds,
      keys: {
        get: async (type, ids) => {
          const { rows } = await pool.query(
            'SELECT key_id, value FROM whatsapp_keys WHERE company_id = $1 AND key_type = $2 AND key_id = ANY ($3)',
            [companyId, type, ids]
          )
          const values = {}
          for (const row of rows) {
            const value = revived(row.value)
            values[row.key_id] =
              type === 'app-state-sync-key' ? proto.Message.AppStateSyncKeyData.fromObject(value) : value
          }
          return values
        },
        set: async data => {
          const now = Date.now()
          const rows = []
          for (const [type, values] of Object.entries(data)) {
            const expires = new Date(now + (WEEK_TYPES.has(type) ? 7 : 14) * DAY_MS).toISOString()
            for (const [id, value] of Object.entries(values)) {
              rows.push([companyId, type, id, written(value), new Date(now).toISOString(), expires])
            }
          }
          for (let first = 0; first < rows.length; first += keysPerInsert) {
            const batch = rows.slice(first, first + keysPerInsert)
            await pool.query(upsert(batch.length), batch.flat())
          }
        }
      }
    },
    saveCreds: async () => {
      await pool.query(
        `INSERT INTO whatsapp_auth (company_id, creds) VALUES ($1, $2)
         ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds`,
        [companyId, written(creds)]
      )
    }
  }
}
