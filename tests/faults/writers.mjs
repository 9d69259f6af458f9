/**
 * Accounts that write all the time. Run in a folder that has `signal-keystore-baileys` installed.
 *
 * The first line of standard input is `{url, token, accounts, options}`. Each write of an account puts one version into a session
 * and a pre-key of the same id. Standard output has a line `{account, id, version}` for each acknowledged write, and a line
 * `{ended}` for an account that the store refused. The line `stop` lets the writes under way end, and closes.
 */
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const { resolve } = createRequire(`${process.cwd()}/`)
const { connectKeystore } = await import(pathToFileURL(resolve('signal-keystore-baileys')).href)
const IDS = 25

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const say = line => process.stdout.write(`${JSON.stringify(line)}\n`)
const { url, token, accounts, options } = JSON.parse((await lines.next()).value)
const keystore = connectKeystore(url, { token: token || undefined, connections: 2 })
let isOver = false
let retries = 0

async function writes(account) {
  const auth = await keystore.authState(account, options)
  const known = await auth.state.keys.get('session', Array.from({ length: IDS }, (_, id) => `${id}`))
  let version = Math.max(0, ...Object.values(known).map(({ version }) => version))
  say({ opened: account, version })
  try {
    while (!isOver) {
      version += 1
      const id = `${version % IDS}`
      await auth.state.keys.set({ session: { [id]: { version } }, 'pre-key': { [id]: { version } } })
      say({ account, id, version })
    }
  } catch (error) {
    say({ ended: account, error: `${error.name}: ${error.message}` })
  }
  return auth
}

const running = accounts.map(writes)
for (;;) {
  const { value, done } = await lines.next()
  if (done || value === 'stop') break
}
isOver = true
const opened = await Promise.all(running)
retries = opened.reduce((sum, auth) => sum + auth.stats().retries, 0)
const wentBack = opened.reduce((sum, auth) => sum + auth.stats().databaseWentBack, 0)
await keystore.close().catch(error => say({ ended: 'close', error: `${error.name}: ${error.message}` }))
say({ retries, wentBack })
process.exit(0)
