/** Reads the address of a PostgreSQL database as libpq does: several hosts, a socket's folder, and the parameters of TLS. */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'

import { KeystoreError } from '../errors.js'

const CONNECT_TIMEOUT_MS = 10_000

/** A way to use TLS; false: none. `prefer` goes on without it if the server has none. */
export interface Tls {
  readonly options: ConnectionOptions | false
  readonly prefer: boolean
}

export interface Host {
  readonly host: string
  readonly port: number
  readonly tls: Tls
}

export interface Address {
  /** At least one; they are tried in turn. */
  readonly hosts: readonly Host[]
  readonly user: string
  readonly password: string | undefined
  readonly database: string
  readonly connectTimeoutMs: number
  readonly options: string | undefined
  /** The address without the login, for messages. */
  readonly name: string
}

const PARTS = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^/?#@]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/

export function isPostgres(url: string): boolean {
  return /^postgres(?:ql)?:\/\//.test(url)
}

/** Throws KeystoreError, which shows no part of the address. */
export function readAddress(url: string): Address {
  const [, login = '', authority = '', path = '', query = ''] = PARTS.exec(url) ?? refuse('expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE')
  const [user, password] = login.split(/:(.*)/s).map(decoded)
  const params = new URLSearchParams(query)
  const database = decoded(path) || params.get('dbname') || user
  if (!user || !database) refuse('it needs a user and a database')
  const places = (params.get('host') ?? authority).split(',')
  const ports = (params.get('port') ?? '').split(',')
  const hosts = places.map((place, index) => {
    const [, host = '', ownPort = ''] = /^(\[[^\]]*\]|[^:[\]]*)(?::(\d*))?$/.exec(decoded(place)) ?? refuse("a host can't be read")
    const port = Number(ownPort || ports[index] || ports[0] || 5432)
    if (!(port > 0 && port < 65_536)) refuse('a port is not a number from 1 to 65535')
    const name = host.replace(/^\[|\]$/g, '') || 'localhost'
    return { host: name, port, tls: tlsOf(name, params) }
  })
  const seconds = Number(params.get('connect_timeout') ?? 0)
  return {
    hosts,
    user,
    password: password || params.get('password') || undefined,
    database,
    connectTimeoutMs: seconds > 0 ? seconds * 1000 : CONNECT_TIMEOUT_MS,
    options: params.get('options') ?? undefined,
    name: `postgresql://${hosts.map(({ host, port }) => `${host}:${port}`).join(',')}/${database}`
  }
}

/** Without `sslmode` TLS is preferred, but on this machine it isn't tried. */
function tlsOf(host: string, params: URLSearchParams): Tls {
  const isNear = host.startsWith('/') || ['localhost', '127.0.0.1', '::1'].includes(host)
  const mode = params.get('sslmode') ?? (isNear ? 'disable' : 'prefer')
  const rootFile = params.get('sslrootcert')
  const [certFile, keyFile] = [params.get('sslcert'), params.get('sslkey')]
  const options: ConnectionOptions = {
    ...(host.startsWith('/') ? {} : { servername: host }),
    ...(rootFile && rootFile !== 'system' ? { ca: contentOf(rootFile, 'sslrootcert') } : {}),
    ...(certFile ? { cert: contentOf(certFile, 'sslcert') } : {}),
    ...(keyFile ? { key: contentOf(keyFile, 'sslkey') } : {})
  }
  switch (mode) {
    case 'disable':
      return { options: false, prefer: false }
    case 'allow':
    case 'prefer':
      return { options: { ...options, rejectUnauthorized: false }, prefer: true }
    case 'require':
      // As libpq has it: with a root certificate the server's certificate is checked, but not its name.
      if (!rootFile) return { options: { ...options, rejectUnauthorized: false }, prefer: false }
      return { options: { ...options, checkServerIdentity: () => undefined }, prefer: false }
    case 'verify-ca':
      return { options: { ...options, checkServerIdentity: () => undefined }, prefer: false }
    case 'verify-full':
      return { options, prefer: false }
    default:
      return refuse('sslmode is one of disable, allow, prefer, require, verify-ca, verify-full')
  }
}

function contentOf(file: string, param: string): Buffer {
  try {
    return readFileSync(file)
  } catch {
    return refuse(`the file of ${param} can't be read`)
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return refuse("a percent sign in it isn't followed by two digits; write %25 for a percent sign")
  }
}

function refuse(reason: string): never {
  throw new KeystoreError(`url: the address of a PostgreSQL database can't be used: ${reason}`)
}
