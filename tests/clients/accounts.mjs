/**
 * Devices of WhatsApp accounts: Baileys' handling of messages, without WhatsApp.
 *
 * Run in a folder that has `baileys` and `signal-keystore-baileys` installed. Each line of standard input is a JSON
 * request `{id, as, do, …}`: the device `as` is to do the action `do`. Each answer is `{id, ok}` or `{id, error}`.
 */
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const { resolve } = createRequire(`${process.cwd()}/`)
const load = name => import(pathToFileURL(resolve(name)).href)
const baileys = await load('baileys')
const {
  addTransactionCapability,
  BufferJSON,
  encodeWAMessage,
  generateSignalPubKey,
  getNextPreKeys,
  initAuthCreds,
  proto,
  unpadRandomMax16
} = baileys.proto ? baileys : baileys.default // 6 is CommonJS.
const { makeLibSignalRepository } = await load('baileys/lib/Signal/libsignal.js')
const { connectKeystore, useKeystoreAuthState } = await load('signal-keystore-baileys')

const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => silent, level: 'silent' }
const base64 = bytes => Buffer.from(bytes).toString('base64')
const bytes = text => Buffer.from(text, 'base64')
// libsignal prints even keys, and stdout is for answers.
console.log = console.info = console.warn = console.error = () => {}

class Device {
  constructor(jid, { state, saveCreds, close, stats }) {
    this.jid = jid
    this.creds = state.creds
    this.raw = state.keys
    this.saveCreds = saveCreds
    this.close = close
    this.stats = stats
    this.keys = addTransactionCapability(state.keys, silent, { maxCommitRetries: 10, delayBetweenTriesMs: 3_000 })
    this.repository = makeLibSignalRepository({ creds: this.creds, keys: this.keys }, silent)
    // The repository of Baileys 7 has a transaction for each contact; with 6 the caller needs one for everything.
    this.seven = this.repository.lidMapping !== undefined
  }

  transaction(work) {
    return this.seven ? work() : this.keys.transaction(work)
  }

  /** New pre-keys, made as `uploadPreKeys` does: the creds and the keys that they count in one transaction. */
  async bundles({ count }) {
    const { creds, keys } = this
    const first = creds.nextPreKeyId
    let saved
    const preKeys = await keys.transaction(async () => {
      const { update, preKeys } = await getNextPreKeys({ creds, keys }, count)
      Object.assign(creds, update)
      saved = this.saveCreds()
      return preKeys
    }, 'upload-pre-keys')
    await saved
    const { keyPair, keyId, signature } = creds.signedPreKey
    return Object.entries(preKeys)
      .filter(([id]) => Number(id) >= first)
      .map(([id, pair]) => ({
        registrationId: creds.registrationId,
        identityKey: base64(generateSignalPubKey(creds.signedIdentityKey.public)),
        signedPreKey: { keyId, publicKey: base64(generateSignalPubKey(keyPair.public)), signature: base64(signature) },
        preKey: { keyId: Number(id), publicKey: base64(generateSignalPubKey(pair.public)) }
      }))
  }

  async session({ jid, bundle: { registrationId, identityKey, signedPreKey, preKey } }) {
    const session = {
      registrationId,
      identityKey: bytes(identityKey),
      signedPreKey: {
        ...signedPreKey,
        publicKey: bytes(signedPreKey.publicKey),
        signature: bytes(signedPreKey.signature)
      },
      preKey: { ...preKey, publicKey: bytes(preKey.publicKey) }
    }
    await this.transaction(() => this.repository.injectE2ESession({ jid, session }))
  }

  async encrypt({ jid, text }) {
    const data = encodeWAMessage({ conversation: text })
    const { type, ciphertext } = await this.transaction(() => this.repository.encryptMessage({ jid, data }))
    return { type, ciphertext: base64(ciphertext) }
  }

  async decrypt({ jid, type, ciphertext }) {
    return textOf(
      await this.transaction(() => this.repository.decryptMessage({ jid, type, ciphertext: bytes(ciphertext) }))
    )
  }

  async groupEncrypt({ group, text }) {
    const data = encodeWAMessage({ conversation: text })
    return this.keys.transaction(async () => {
      const { ciphertext, senderKeyDistributionMessage } = await this.repository.encryptGroupMessage({
        group,
        meId: this.jid,
        data
      })
      await this.keys.set({ 'sender-key-memory': { [group]: { [this.jid]: true } } })
      return { ciphertext: base64(ciphertext), skdm: base64(senderKeyDistributionMessage) }
    }, group)
  }

  async senderKey({ group, author, skdm }) {
    const item = { groupId: group, axolotlSenderKeyDistributionMessage: bytes(skdm) }
    await this.transaction(() => this.repository.processSenderKeyDistributionMessage({ item, authorJid: author }))
  }

  async groupDecrypt({ group, author, ciphertext }) {
    const message = { group, authorJid: author, msg: bytes(ciphertext) }
    return textOf(await this.transaction(() => this.repository.decryptGroupMessage(message)))
  }

  async mapLids({ pairs }) {
    if (this.seven) await this.repository.lidMapping.storeLIDPNMappings(pairs)
    else
      await this.keys.set({
        'lid-mapping': Object.fromEntries(pairs.map(({ pn, lid }) => [pn.split('@')[0], lid.split('@')[0]]))
      })
  }

  async lidOf({ pn }) {
    if (this.seven) return this.repository.lidMapping.getLIDForPN(pn)
    const [user] = pn.split('@')
    return `${(await this.keys.get('lid-mapping', [user]))[user]}@lid`
  }

  async set({ data }) {
    await this.raw.set(JSON.parse(JSON.stringify(data), BufferJSON.reviver))
  }

  async clear() {
    await this.raw.clear()
  }

  async get({ type, ids }) {
    return this.raw.get(type, ids)
  }

  async save() {
    await this.saveCreds()
  }
}

function textOf(padded) {
  return proto.Message.decode(unpadRandomMax16(padded)).conversation
}

/** The state of an account in memory only. */
function inMemory() {
  const stored = new Map()
  const creds = initAuthCreds()
  const keys = {
    async get(type, ids) {
      const present = ids.filter(id => stored.has(`${type}/${id}`))
      return Object.fromEntries(present.map(id => [id, JSON.parse(stored.get(`${type}/${id}`), BufferJSON.reviver)]))
    },
    async set(data) {
      for (const [type, byId] of Object.entries(data)) {
        for (const [id, value] of Object.entries(byId)) {
          if (value) stored.set(`${type}/${id}`, JSON.stringify(value, BufferJSON.replacer))
          else stored.delete(`${type}/${id}`)
        }
      }
    }
  }
  return { state: { creds, keys }, saveCreds: async () => {}, close: async () => {}, stats: () => ({}) }
}

/** What the client does once a minute, so that a test can ask for it. */
const minutely = new Set()
const { setInterval } = globalThis
globalThis.setInterval = (action, ms, ...args) => {
  if (ms === 60_000) minutely.add(action)
  return setInterval(action, ms, ...args)
}

/** The connections that the accounts of this process share, once one was opened with `shared`. */
let keystore

async function openInStore({ shared, url, company, ...options }) {
  const token = process.env.TOKEN || undefined
  if (!shared) return useKeystoreAuthState({ url, company, token, ...options })
  keystore ??= connectKeystore(url, { token })
  return keystore.authState(company, options)
}

const devices = new Map()
let lost = 0

async function act({ as, do: action, ...options }) {
  if (action === 'open') {
    const onLeaseLost = () => (lost += 1)
    const auth = options.keystore
      ? await openInStore({ onLeaseLost, ...options.keystore })
      : inMemory()
    devices.set(as, new Device(as, auth))
    return auth.stats()
  }
  if (action === 'report') return minutely.forEach(report => report())
  if (action === 'stats') return { ...devices.get(as).stats(), lost }
  return devices.get(as)[action](options)
}

/** The last request of each contact or group, which are handled in order; a Baileys 6 device handles one at a time. */
const queues = new Map()

createInterface({ input: process.stdin }).on('line', line => {
  const request = JSON.parse(line)
  const { as, jid, group } = request
  const queue = devices.get(as)?.seven === false ? as : `${as} ${jid ?? group ?? request.id}`
  const done = (queues.get(queue) ?? Promise.resolve()).then(async () => {
    try {
      answer({ id: request.id, ok: (await act(request)) ?? null })
    } catch (error) {
      answer({ id: request.id, error: `${error.name}: ${error.message}` })
    }
  })
  queues.set(queue, done)
})

function answer(line) {
  process.stdout.write(`${JSON.stringify(line, BufferJSON.replacer)}\n`)
}
