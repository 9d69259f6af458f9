/**
 * Between an account's JSON in memory and its values in the store: seals and opens them, and knows which can't be read, and
 * which are still to be sealed.
 *
 * A value that can't be read takes no other down. It is left out, named once, and stays in the store.
 */
import { KeystoreError } from './errors.js'
import { isSealed, isSealedType, keyIdOf, SEAL_BYTES, Sealer } from './sealing.js'
import type { State, Write } from './transport.js'
import { base64Size, bytesAsJson, bytesOf, isJson, OPEN_BRACE, ofType, valueOf, type SentKeys, type StoredKeys, type Value } from './values.js'

/** The most that is sealed with one write beside the bot's own writes. */
const PART_KEYS = 200
const PART_BYTES = 256 * 1024

const NOT_JSON = "its JSON can't be parsed"
const DOES_NOT_OPEN = "it doesn't open: it was changed, or sealed for another company, type or id"
const STRANGE_FORMAT = "it isn't the value that was written last, or is stored in a format that this version can't read"

/** Values as JSON: keys, and creds unless they are undefined. */
export interface Plain {
  readonly keys: StoredKeys
  readonly creds: string | undefined
}

/** A name in a set. No type or id has the character between them: it isn't printable. */
const nameOf = (type: string, id: string): string => `${type}\0${id}`
const CREDS = nameOf('', '')

export class StoredValues {
  readonly #sealer: Sealer | undefined
  readonly #unreadable = new Set<string>()
  /** The values that are stored in clear, or sealed by an older key. */
  readonly #unsealed = new Set<string>()

  /** `leftOut` is called once for each value that can't be read. */
  constructor(
    private readonly company: string,
    secretKeys: readonly Uint8Array[] | undefined,
    private readonly leftOut: (type: string, id: string, reason: string) => void
  ) {
    this.#sealer = secretKeys && new Sealer(company, secretKeys)
  }

  get unreadable(): number {
    return this.#unreadable.size
  }

  get unsealed(): number {
    return this.#unsealed.size
  }

  /** The bytes of a value in a request. */
  readonly bytesOf = (type: string, json: string): number =>
    this.#sealer && isSealedType(type) ? base64Size(Buffer.byteLength(json) + SEAL_BYTES) : bytesOf(json)

  /** Returns a write as the store gets it. (A write that is sent again is not sealed again.) */
  sealed({ keys, creds }: Plain): Write {
    const sealer = this.#sealer
    if (!sealer) return { keys, creds }
    const sent: SentKeys = new Map()
    for (const [type, byId] of keys) {
      const values = ofType(sent, type)
      for (const [id, json] of byId) {
        values.set(id, json === null || !isSealedType(type) ? json : sealer.seal(type, id, Buffer.from(json)))
      }
    }
    return { keys: sent, creds: creds === undefined ? undefined : sealer.seal('', '', Buffer.from(creds)) }
  }

  /** Opens a loaded state. Throws KeystoreError if a secret key is missing, or if the creds can't be read. */
  opened(state: State): { creds: string | undefined; keys: Map<string, Map<string, string>> } {
    this.#requireKeys(state)
    const creds = state.creds === undefined ? undefined : this.#openedCreds(state.creds)
    const keys = new Map<string, Map<string, string>>()
    for (const [type, byId] of state.keys) {
      const opened = ofType(keys, type)
      for (const [id, value] of byId) {
        const json = this.#opened(type, id, value)
        if (json !== undefined) opened.set(id, json)
        if (this.#sealer && json !== undefined && isSealedType(type) && !this.#isNewest(value)) this.#unsealed.add(nameOf(type, id))
      }
    }
    if (this.#sealer && creds !== undefined && !this.#isNewest(state.creds)) this.#unsealed.add(CREDS) // The last: then all is sealed.
    return { creds, keys }
  }

  /** Returns the deletion of each key of a loaded state that memory lacks, but for those that can't be read. */
  deletionsOf(state: State, isInMemory: (type: string, id: string) => boolean): StoredKeys {
    const deletions: StoredKeys = new Map()
    for (const [type, byId] of state.keys) {
      for (const [id, value] of byId) {
        const json = isInMemory(type, id) ? undefined : this.#opened(type, id, value)
        if (json === undefined) continue
        if (!isJson(json)) {
          this.leaveOut(type, id)
          continue
        }
        this.written(type, id)
        ofType(deletions, type).set(id, null)
      }
    }
    return deletions
  }

  /** Leaves out a value that can't be read. */
  leaveOut(type: string, id: string, reason = NOT_JSON): void {
    const name = nameOf(type, id)
    this.#unsealed.delete(name)
    if (this.#unreadable.has(name)) return
    this.#unreadable.add(name)
    this.leftOut(type, id, reason)
  }

  /** The former value of a key is replaced or deleted. */
  written(type: string, id: string): void {
    this.#unreadable.delete(nameOf(type, id))
    this.#unsealed.delete(nameOf(type, id))
  }

  credsWritten(): void {
    this.#unsealed.delete(CREDS)
  }

  /** All keys are in the trash. */
  cleared(): void {
    this.#unreadable.clear()
    for (const name of this.#unsealed) if (name !== CREDS) this.#unsealed.delete(name)
  }

  /** Returns some of the values that are to be sealed, as memory has them now; undefined if there are none. */
  nextUnsealed(jsonOf: (type: string, id: string) => string | undefined, creds: string | undefined): Plain | undefined {
    const keys: StoredKeys = new Map()
    let part: Plain = { keys, creds: undefined }
    let bytes = 0
    let count = 0
    for (const name of this.#unsealed) {
      const [type, id] = name.split('\0') as [string, string]
      const json = name === CREDS ? creds : jsonOf(type, id)
      if (json === undefined) {
        this.#unsealed.delete(name)
        continue
      }
      bytes += this.bytesOf(type, json)
      count += 1
      if (count > 1 && (count > PART_KEYS || bytes > PART_BYTES)) break
      if (name === CREDS) part = { keys, creds: json }
      else ofType(keys, type).set(id, json)
    }
    return count > 0 ? part : undefined
  }

  /** The values of such a part are stored. */
  partSealed({ keys, creds }: Plain): void {
    for (const [type, byId] of keys) for (const id of byId.keys()) this.#unsealed.delete(nameOf(type, id))
    if (creds !== undefined) this.credsWritten()
  }

  /** Throws KeystoreError if a value is sealed by a key that isn't there: otherwise the account would look like one without sessions. */
  #requireKeys({ creds, keys }: State): void {
    const missing = new Map<string, number>()
    const look = (value: Value | undefined): void => {
      if (!(value instanceof Buffer) || !isSealed(value) || this.#sealer?.hasKeyOf(value)) return
      missing.set(keyIdOf(value), (missing.get(keyIdOf(value)) ?? 0) + 1)
    }
    look(creds)
    for (const byId of keys.values()) byId.forEach(look)
    if (missing.size === 0) return
    const counts = Array.from(missing, ([keyId, count]) => `${count} by the key with the id ${keyId}`)
    throw new KeystoreError(
      `${this.company}: its values are sealed, ${counts.join(', ')}, ` +
        (this.#sealer
          ? "which isn't in secretKey; put that key there, behind the newest"
          : 'and the option secretKey is missing; set it to that key. Nothing was written')
    )
  }

  #openedCreds(value: Value): string {
    const json = this.#plain('', '', value)
    if (json === undefined || !isJson(json)) {
      throw new KeystoreError(
        `${this.company}: its creds can't be read: they were changed, or sealed for another company; ` +
          'bring them back with `python run.py restore`, or pair anew under another company'
      )
    }
    return json
  }

  /** Returns a key's JSON; undefined after it was left out. */
  #opened(type: string, id: string, value: Value | undefined): string | undefined {
    if (typeof value === 'string') return value
    const json = value && this.#plain(type, id, value)
    if (json === undefined) {
      const reason = value === undefined ? STRANGE_FORMAT : isSealed(value) ? DOES_NOT_OPEN : NOT_JSON
      this.leaveOut(type, id, reason)
    }
    return json
  }

  /** Returns a value's JSON; undefined if it can't be read. Bytes that aren't JSON become a Buffer; older bots wrote some. */
  #plain(type: string, id: string, value: Value): string | undefined {
    let plain = value
    if (plain instanceof Buffer && isSealed(plain)) {
      const opened = this.#sealer?.open(type, id, plain)
      if (!opened) return undefined
      plain = valueOf(opened)
    }
    if (typeof plain === 'string') return plain
    if (plain === value && this.#sealer?.hasKeyOf(plain)) return undefined // It was sealed, and its format byte was changed.
    return plain[0] === OPEN_BRACE ? undefined : bytesAsJson(plain)
  }

  #isNewest(value: Value | undefined): boolean {
    return value instanceof Buffer && isSealed(value) && this.#sealer!.isNewest(value)
  }
}
