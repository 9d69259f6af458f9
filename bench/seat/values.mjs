// Baileys' values of the keys' JSON, and a hash of them.

import { createHash } from 'node:crypto'
import { BufferJSON, proto } from 'baileys'

export const textOf = value => JSON.stringify(value, BufferJSON.replacer)

export const valueOf = (type, text) => {
  const value = JSON.parse(text, BufferJSON.reviver)
  return type === 'app-state-sync-key' ? proto.Message.AppStateSyncKeyData.fromObject(value) : value
}

export const valuesOf = texts => {
  const keys = {}
  for (const [type, byId] of Object.entries(texts)) {
    keys[type] = {}
    for (const [id, text] of Object.entries(byId)) keys[type][id] = valueOf(type, text)
  }
  return keys
}

export const textsOf = keys => Object.values(keys).map(byId => Object.values(byId).map(textOf))

// Names in order and bytes as base64: jsonb does not keep the order of names, and Buffers have several forms.
const normal = value => {
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString('base64') }
  if (Array.isArray(value)) return value.map(normal)
  if (typeof value?.toJSON === 'function') return normal(value.toJSON())
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.keys(value).sort().map(name => [name, normal(value[name])]))
}

export const look = keys => {
  const rows = []
  for (const type in keys) {
    for (const id in keys[type]) if (keys[type][id]) rows.push(JSON.stringify([type, id, normal(keys[type][id])]))
  }
  return { keys: rows.length, digest: createHash('sha256').update(rows.sort().join('\n')).digest('hex') }
}
