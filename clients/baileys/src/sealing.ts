/**
 * Sealed values: AES-256-GCM with the name of the value as associated data. `docs/sealing.md` describes the format.
 *
 * The database, the service and their backups then have no key of an account in clear.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, createSecretKey, randomFillSync, type KeyObject } from 'node:crypto'

import { KeystoreError } from './errors.js'

/** A secret key: 32 bytes, or their base64 in either alphabet, with or without its padding. A text may hold several. */
export type SecretKey = string | Uint8Array

/** The format byte of a sealed value. No JSON begins with it. */
export const SEALED = 1
const KEY_BYTES = 32
const ID_BYTES = 8
const NONCE_BYTES = 12
const TAG_BYTES = 16
const HEAD_BYTES = 1 + ID_BYTES
const TEXT_AT = HEAD_BYTES + NONCE_BYTES
/** The bytes by which a sealed value is longer than the value. */
export const SEAL_BYTES = TEXT_AT + TAG_BYTES

/** The sweep's guards compare the values of these types in the database. They hold no key. */
const PLAIN_TYPES: ReadonlySet<string> = new Set(['lid-mapping'])
/** The database counts a pre-key that is written again with other bytes. So the same value has the same sealed form. */
const REPEATABLE_TYPES: ReadonlySet<string> = new Set(['pre-key'])

const HOW_TO_MAKE_A_KEY = '`openssl rand -base64 32` makes one'
const BASE64 = /^[A-Za-z0-9+/_-]{43}=?$/

/** Returns true if values of this type are sealed; the creds have an empty type. */
export function isSealedType(type: string): boolean {
  return !PLAIN_TYPES.has(type)
}

/** Returns true if these bytes are a sealed value. */
export function isSealed(value: Uint8Array): boolean {
  return value[0] === SEALED && value.length >= SEAL_BYTES
}

/** The id of the key that sealed a value, in hex. */
export function keyIdOf(sealed: Buffer): string {
  return sealed.toString('hex', 1, HEAD_BYTES)
}

/** Random bytes for nonces, from here on. The system takes as long for a few as for thousands. */
const random = Buffer.alloc(300 * NONCE_BYTES)
let randomAt = random.length

function randomNonce(): Buffer {
  if (randomAt === random.length) {
    randomFillSync(random)
    randomAt = 0
  }
  return random.subarray(randomAt, (randomAt += NONCE_BYTES))
}

class SealingKey {
  readonly id: Buffer
  /** The first bytes of each value that this key has sealed. */
  readonly head: Buffer
  readonly cipherKey: KeyObject
  readonly #nonceKey: Buffer

  constructor(raw: Uint8Array) {
    this.id = createHash('sha256').update('signal-keystore key id').update(raw).digest().subarray(0, ID_BYTES)
    this.head = Buffer.concat([Buffer.of(SEALED), this.id])
    this.cipherKey = createSecretKey(raw)
    this.#nonceKey = createHmac('sha256', raw).update('signal-keystore pre-key nonce').digest()
  }

  /** A nonce that depends on the name and the value alone. The name's length keeps `name, value` from having two readings. */
  nonceFor(name: Buffer, value: Buffer): Buffer {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(name.length)
    return createHmac('sha256', this.#nonceKey).update(length).update(name).update(value).digest().subarray(0, NONCE_BYTES)
  }
}

/** Seals and opens the values of one company. */
export class Sealer {
  readonly #keys: readonly SealingKey[]
  readonly #company: Buffer
  /** The beginning of the names of a type's values. */
  readonly #starts = new Map<string, Buffer>()

  constructor(company: string, keys: readonly Uint8Array[]) {
    this.#keys = keys.map(key => new SealingKey(key))
    this.#company = namePart(company.replace(/^(company_)+/, '')) // The store knows both spellings as one company.
  }

  /** Seals with the newest key. Only a test vector passes a `nonce`. */
  seal(type: string, id: string, value: Buffer, nonce?: Buffer): Buffer {
    const key = this.#keys[0]!
    const name = this.#name(type, id)
    nonce ??= REPEATABLE_TYPES.has(type) ? key.nonceFor(name, value) : randomNonce()
    const cipher = createCipheriv('aes-256-gcm', key.cipherKey, nonce).setAAD(name)
    const text = cipher.update(value)
    cipher.final()
    return Buffer.concat([key.head, nonce, text, cipher.getAuthTag()], value.length + SEAL_BYTES)
  }

  /** Returns the value; undefined if it doesn't open: it was changed, or sealed under another name, or by an unknown key. */
  open(type: string, id: string, sealed: Buffer): Buffer | undefined {
    const key = isSealed(sealed) ? this.#keyOf(sealed) : undefined
    if (!key) return undefined
    const tagAt = sealed.length - TAG_BYTES
    const nonce = sealed.subarray(HEAD_BYTES, TEXT_AT)
    const decipher = createDecipheriv('aes-256-gcm', key.cipherKey, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(this.#name(type, id)).setAuthTag(sealed.subarray(tagAt))
    const value = decipher.update(sealed.subarray(TEXT_AT, tagAt))
    try {
      decipher.final()
    } catch {
      return undefined
    }
    return value
  }

  /** Returns true if the key that sealed a value is there, also if the value was damaged in another place. */
  hasKeyOf(sealed: Buffer): boolean {
    return this.#keyOf(sealed) !== undefined
  }

  /** Returns true if the newest key sealed a value. */
  isNewest(sealed: Buffer): boolean {
    return this.#keyOf(sealed) === this.#keys[0]
  }

  #keyOf(sealed: Buffer): SealingKey | undefined {
    if (sealed.length < HEAD_BYTES) return undefined
    return this.#keys.find(({ id }) => id.compare(sealed, 1, HEAD_BYTES) === 0)
  }

  #name(type: string, id: string): Buffer {
    let start = this.#starts.get(type)
    if (!start) this.#starts.set(type, (start = Buffer.concat([this.#company, namePart(type)])))
    return Buffer.concat([start, Buffer.from(id)])
  }
}

function namePart(text: string): Buffer {
  const part = Buffer.from(`\0\0\0\0${text}`)
  part.writeUInt32BE(part.length - 4)
  return part
}

/** Returns the keys of the option `secretKey`, newest first; undefined without it. Throws KeystoreError, and shows no key. */
export function secretKeysOf(options: { secretKey?: SecretKey | readonly SecretKey[] }): Buffer[] | undefined {
  if (!('secretKey' in options)) return undefined
  const { secretKey } = options
  const all: readonly unknown[] = Array.isArray(secretKey) ? secretKey : [secretKey]
  const parts = all.flatMap(part => (typeof part === 'string' ? part.split(/[\s,]+/).filter(Boolean) : [part]))
  if (parts.length === 0 || parts.includes(undefined)) {
    throw new KeystoreError(
      'secretKey: it is empty or undefined; is the variable of the environment set? Without the option values are stored in clear'
    )
  }
  const keys = parts.map((part, index) => keyFrom(part, `secretKey: key ${index + 1}`))
  if (new Set(keys.map(key => key.toString('hex'))).size === keys.length) return keys
  throw new KeystoreError('secretKey: two keys are the same; name each once, newest first')
}

function keyFrom(part: unknown, name: string): Buffer {
  const isText = typeof part === 'string' && BASE64.test(part)
  const key = isText ? Buffer.from(part, 'base64url') : part instanceof Uint8Array ? Buffer.from(part) : Buffer.alloc(0)
  if (key.length !== KEY_BYTES) throw new KeystoreError(`${name} isn't 32 bytes, or their base64; ${HOW_TO_MAKE_A_KEY}`)
  if (new Set(key).size >= KEY_BYTES / 4) return key
  throw new KeystoreError(`${name} repeats a few bytes, so it isn't random; ${HOW_TO_MAKE_A_KEY}`)
}
