/**
 * Converts between Baileys' values and the JSON that is stored.
 *
 * Memory holds the JSON, and every read parses it again, as `useMultiFileAuthState` does. So a caller that changes a
 * value changes nothing here.
 */
import { isUtf8 } from 'node:buffer'

import type { Baileys } from './baileys.js'
import { KeystoreError } from './errors.js'

const MAX_NAME = 255
/** Printable characters, as the store takes them; no half of a surrogate pair. */
const NAME = /^(?:[^\p{C}\p{Z}]| )+$/u

/** `{type: {id: JSON}}`; null deletes the key. */
export type StoredKeys = Map<string, Map<string, string | null>>

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
export function keysAsJson(keys: StoredKeys): string {
  return jsonObject(keys, byId => jsonObject(byId, json => (json === null ? 'null' : asSent(json))))
}

/**
 * Returns a value's JSON as the service takes it. It takes no half of a surrogate pair as JSON, and an object whose only
 * field is `$base64` as bytes; either is sent as bytes.
 */
export function asSent(json: string): string {
  return json.includes('\\ud') || json.startsWith('{"$base64"')
    ? `{"$base64":"${Buffer.from(json).toString('base64')}"}`
    : json
}

/** Returns the JSON of a value that the service sent. Bytes that aren't JSON become a Buffer; older bots wrote some. */
export function asReceived(value: unknown): string {
  const json = JSON.stringify(value)
  if (!json.startsWith('{"$base64"')) return json
  const bytes = Buffer.from((value as { $base64: string }).$base64, 'base64')
  try {
    if (isUtf8(bytes)) return JSON.parse(bytes.toString()), bytes.toString()
  } catch {
    // It isn't JSON.
  }
  return bytesAsJson(bytes)
}

/** Returns the map of this type's keys, after adding an empty one if there is none. */
export function ofType<T>(keys: Map<string, Map<string, T>>, type: string): Map<string, T> {
  let byId = keys.get(type)
  if (!byId) keys.set(type, (byId = new Map()))
  return byId
}

/** The bytes of a key in a request, about. */
export function bytesOfKey(id: string, json: string | null): number {
  return 3 * id.length + (json === null ? 4 : bytesOf(json)) + 4
}

export function bytesOfKeys(keys: StoredKeys): number {
  let bytes = 0
  for (const byId of keys.values()) for (const [id, json] of byId) bytes += bytesOfKey(id, json)
  return bytes
}

export function bytesOf(json: string): number {
  return Buffer.byteLength(asSent(json))
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
