// The stores, each as a bot uses it: `connect` is a bot's start, on a connection of its own, and `shared` is one of many
// accounts in a process. Both return `{ state, saveCreds, close }`.

import { join } from 'node:path'
import pg from 'pg'
import redisBaileys from 'redis-baileys'
import { useMultiFileAuthState } from 'baileys'
import { connectKeystore, useKeystoreAuthState } from 'signal-keystore-baileys'
import { useLegacyAuthState } from './legacy.mjs'
import { useLimitAuthState } from './limit.mjs'

// With a rare renewal of leases, the accounts of one store don't disturb the turns of another.
const LEASE_TTL_S = 3600

const nothing = async () => {}

const onPool = (url, most, useAuthState) => {
  const shared = new pg.Pool({ connectionString: url, max: most })
  return {
    connect: async company => {
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      return { ...(await useAuthState(client, company)), close: () => client.end() }
    },
    shared: async company => ({ ...(await useAuthState(shared, company)), close: nothing })
  }
}

const unshared = connect => ({ connect, shared: connect })

export const STORES = {
  keystore: ({ url, token, connections, ...sealing }) => {
    const keystore = connectKeystore(url, { token, connections })
    const options = { leaseTtlS: LEASE_TTL_S, ...sealing }
    return {
      connect: company => useKeystoreAuthState({ url, token, company, ...options }),
      shared: company => keystore.authState(company, options)
    }
  },
  limit: ({ url, connections }) => onPool(url, connections, useLimitAuthState),
  legacy: ({ url, connections, keys_per_insert }) =>
    onPool(url, connections, (client, company) => useLegacyAuthState(client, company, keys_per_insert)),
  files: ({ folder }) =>
    unshared(async company => ({ ...(await useMultiFileAuthState(join(folder, company))), close: nothing })),
  // Each state of redis-baileys has a connection of its own, which it closes only when it deletes the session.
  redis: ({ url }) => {
    const { hostname: host, port } = new URL(url)
    return unshared(async company => ({ ...(await redisBaileys.useRedisAuthState({ host, port }, company)), close: nothing }))
  }
}
