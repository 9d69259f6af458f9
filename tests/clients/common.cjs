/**
 * A bot as CommonJS, which opens, writes and closes an account with the Baileys of its folder, then with one that is handed in.
 * Arguments: the options of the account as JSON, and the name of the Baileys to hand in.
 */
const assert = require('node:assert/strict')
const { createRequire } = require('node:module')
const { pathToFileURL } = require('node:url')

const required = createRequire(`${process.cwd()}/`)
const { KeystoreError, useKeystoreAuthState } = required('signal-keystore-baileys')

async function main() {
  const options = JSON.parse(process.argv[2])
  const first = await useKeystoreAuthState(options)
  await first.state.keys.set({ session: { a: Buffer.from([1]) } })
  await first.saveCreds()
  await first.close()
  const { BufferJSON, proto } = await import(pathToFileURL(required.resolve(process.argv[3])).href)
  const fork = { BufferJSON, proto, initAuthCreds: () => assert.fail('there are creds') }
  const second = await useKeystoreAuthState({ ...options, baileys: fork })
  assert.deepEqual(await second.state.keys.get('session', ['a']), { a: Buffer.from([1]) })
  assert.deepEqual(second.state.creds.noiseKey, first.state.creds.noiseKey)
  await second.close()
  await assert.rejects(useKeystoreAuthState({ ...options, url: 'ftp://x' }), KeystoreError)
}

main()
