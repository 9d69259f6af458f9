/**
 * Converts between Baileys' values and the JSON that is stored.
 *
 * Memory holds the JSON, and every read parses it again, as `useMultiFileAuthState` does. So a caller that changes a
 * value changes nothing here.
 */
import { isUtf8 } from 'node:buffer'

import type { Baileys } from './baileys.js'
import { KeystoreError } from './errors.js'
import { isSealed } from './sealing.js'

const MAX_NAME = 255
export const OPEN_BRACE = 0x7b
/** Bytes as the service takes them. */
const [BASE64_START, BASE64_END] = ['{"$base64":"', '"}'] as const
/** Printable characters, as the store takes them; no half of a surrogate pair. */
const NAME = /^(?:[^\p{C}\p{Z}]| )+$/u

/** `{type: {id: JSON}}`; null deletes the key. */
export type StoredKeys = Map<string, Map<string, string | null>>

/** A value as the store has it: its JSON, or bytes that aren't JSON, as a sealed value is. */
export type Value = string | Buffer

/** `{type: {id: value}}` as it is sent; null deletes the key. */
export type SentKeys = Map<string, Map<string, Value | null>>

/** Converts with the functions of a Baileys. */
export class Codec {
  constructor(private readonly baileys: Baileys) {}

  toJson(value: unknown): string {
    return JSON.stringify(value, this.baileys.BufferJSON.replacer)
  }

  fromJson(json: string): unknown {
    return JSON.parse(json, this.#revive)
  }

  /** Returns a key as Baileys expects it: app state keys are protobuf messages there. */
  keyFromJson(type: string, json: string): unknown {
    const value = this.fromJson(json)
    return type === 'app-state-sync-key' && value !== null
      ? this.baileys.proto.Message.AppStateSyncKeyData.fromObject(value as Record<string, unknown>)
      : value
  }

  /** Returns the JSON of a `keys.set`. Throws before anything is written if a name or value can't be stored. */
  storedKeys(data: Readonly<Record<string, Readonly<Record<string, unknown>> | undefined>>): StoredKeys {
    const keys: StoredKeys = new Map()
    for (const [type, byId] of Object.entries(data)) {
      const entries = Object.entries(byId ?? {})
      if (entries.length === 0) continue
      const stored = new Map<string, string | null>()
      for (const [id, value] of entries) {
        const json = value === null || value === undefined ? null : this.toJson(value)
        if (!isName(type) || !isName(id) || json === undefined) {
          throw new KeystoreError(
            `${type.slice(0, 80)} ${id.slice(0, 80)}: can't be stored: a key has a type and an id of 1 to ${MAX_NAME} ` +
              'printable characters, and a value that JSON can express'
          )
        }
        stored.set(id, json === 'null' ? null : json)
      }
      keys.set(type, stored)
    }
    return keys
  }

  /** Also revives a Buffer as an array, which older bots wrote and Baileys 7 ignores. */
  readonly #revive = (name: string, value: unknown): unknown => {
    if (typeof value === 'object' && value !== null) {
      const { type, data } = value as { type?: unknown; data?: unknown }
      if (type === 'Buffer' && Array.isArray(data)) return Buffer.from(data)
    }
    return this.baileys.BufferJSON.reviver(name, value)
  }
}

/** Returns the JSON of bytes, as every Baileys writes a Buffer. */
export function bytesAsJson(bytes: Buffer): string {
  return JSON.stringify({ type: 'Buffer', data: bytes.toString('base64') })
}

/** Returns `{type: {id: value}}` as the service takes it. */
export function keysAsJson(keys: SentKeys): string {
  return jsonObject(keys, byId => jsonObject(byId, value => (value === null ? 'null' : asSent(value))))
}

/**
 * Returns a value as the service takes it. It takes no half of a surrogate pair as JSON, and an object whose only
 * field is `$base64` as bytes; either is sent as bytes.
 */
export function asSent(value: Value): string {
  if (typeof value !== 'string') return `${BASE64_START}${value.toString('base64')}${BASE64_END}`
  return value.includes('\\ud') || value.startsWith('{"$base64"') ? asSent(Buffer.from(value)) : value
}

/** Returns a value that the service sent. */
export function asReceived(value: unknown): Value {
  const isBytes = typeof value === 'object' && value !== null && Object.keys(value)[0] === '$base64'
  return isBytes ? valueOf(Buffer.from((value as { $base64: string }).$base64, 'base64')) : JSON.stringify(value)
}

/**
 * Returns the value that stored bytes are. A text that begins as an object does counts as JSON here, without parsing: a load
 * has hundreds.
 */
export function valueOf(bytes: Buffer): Value {
  if (isSealed(bytes) || !isUtf8(bytes)) return bytes
  const text = bytes.toString()
  return bytes[0] === OPEN_BRACE || isJson(text) ? text : bytes
}

export function isJson(text: string): boolean {
  try {
    return JSON.parse(text), true
  } catch {
    return false
  }
}

/** Returns the map of this type's keys, after adding an empty one if there is none. */
export function ofType<T>(keys: Map<string, Map<string, T>>, type: string): Map<string, T> {
  let byId = keys.get(type)
  if (!byId) keys.set(type, (byId = new Map()))
  return byId
}

/** The bytes of a key in a request, about. */
export function bytesOfKey(type: string, id: string, json: string | null, bytesOfJson: BytesOf): number {
  return bytesOfEntry(id, json === null ? undefined : bytesOfJson(type, json))
}

/** The bytes of an id with its value, of so many bytes, or with its deletion. */
function bytesOfEntry(id: string, valueBytes = 'null'.length): number {
  return 3 * id.length + valueBytes + 4
}

/** The bytes of the JSON of this type's value in a request; the creds have an empty type. */
export type BytesOf = (type: string, json: string) => number

/** The bytes of values in a request, about. */
export function bytesOfKeys(keys: SentKeys): number {
  let bytes = 0
  for (const byId of keys.values())
    for (const [id, value] of byId) bytes += bytesOfEntry(id, value === null ? undefined : bytesOf(value))
  return bytes
}

export function bytesOf(value: Value): number {
  return typeof value === 'string' ? Buffer.byteLength(asSent(value)) : base64Size(value.length)
}

/** The bytes of so many bytes in a request. */
export function base64Size(bytes: number): number {
  return BASE64_START.length + 4 * Math.ceil(bytes / 3) + BASE64_END.length
}

export function countOf(keys: ReadonlyMap<string, { readonly size: number }>): number {
  let count = 0
  for (const byId of keys.values()) count += byId.size
  return count
}

function jsonObject<T>(entries: ReadonlyMap<string, T>, asJson: (value: T) => string): string {
  return `{${Array.from(entries, ([name, value]) => `${JSON.stringify(name)}:${asJson(value)}`).join(',')}}`
}

function isName(name: string): boolean {
  return name.length <= MAX_NAME && NAME.test(name)
}
