/** Connects to the store, and opens the accounts of this process on shared connections. */
import { openAccount, type AccountOptions, type KeystoreAuthState } from './auth-state.js'
import { KeystoreError } from './errors.js'
import { HttpTransport } from './http.js'
import { isPostgres } from './postgres/address.js'
import { PostgresTransport } from './postgres/transport.js'
import type { Transport } from './transport.js'

const CONNECTIONS = 2

export interface ConnectOptions {
  /** Over HTTP: the token that `python run.py token create` printed, for all companies of this process. */
  token?: string | undefined
  /** The number of connections that the accounts share. Default: 2. */
  connections?: number | undefined
}

export interface Keystore {
  /** Loads an account's state. `company` is the WhatsApp account's name in the store. */
  authState(company: string, options?: AccountOptions): Promise<KeystoreAuthState>
  /** Closes every account, then the connections. Rejects if an account's `close` does. */
  close(): Promise<void>
}

export interface KeystoreOptions extends AccountOptions {
  /**
   * The service's address, `http://127.0.0.1:8080`, or the database's with the bot's own login,
   * `postgresql://bot_962302:…@db.example/bots`.
   */
  url: string
  /** Over HTTP: the token that `python run.py token create --company …` printed. */
  token?: string | undefined
  /** The WhatsApp account's name in the store. */
  company: string
}

/** Shares connections between the accounts of one process. Connects when the first account is opened. */
export function connectKeystore(url: string, { token, connections = CONNECTIONS }: ConnectOptions = {}): Keystore {
  if (!Number.isInteger(connections) || connections < 1) throw new KeystoreError('connections: expected a number from 1 on')
  const transport: Transport = isPostgres(String(url))
    ? new PostgresTransport(url, connections)
    : new HttpTransport(url, token, connections)
  const accounts = new Set<KeystoreAuthState>()
  return {
    async authState(company, options = {}) {
      const account = await openAccount(transport, checkedCompany(company), options)
      accounts.add(account)
      return account
    },
    async close() {
      const closed = await Promise.allSettled(Array.from(accounts, account => account.close()))
      await transport.close()
      for (const outcome of closed) if (outcome.status === 'rejected') throw outcome.reason
    }
  }
}

/** Loads the state of one account, on a connection of its own. Throws a KeystoreError whose message says what to do. */
export async function useKeystoreAuthState({ url, token, company, ...options }: KeystoreOptions): Promise<KeystoreAuthState> {
  const keystore = connectKeystore(url, { token, connections: 1 })
  try {
    const account = await keystore.authState(company, options)
    return { ...account, close: once(keystore.close) }
  } catch (error) {
    await keystore.close()
    throw error
  }
}

function once(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined
  return () => (done ??= action())
}

function checkedCompany(company: string): string {
  if (typeof company !== 'string' || !/^[A-Za-z0-9_-]{1,64}$/.test(company)) {
    throw new KeystoreError('company: expected 1-64 characters of A-Z a-z 0-9 _ -')
  }
  return company
}
