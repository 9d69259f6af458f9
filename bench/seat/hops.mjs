// The parts of one message's durable write, in turns in one process: reads one request from standard input, and answers with
// the milliseconds of each call. `hops.py` is the other side.

import { Agent, request } from 'node:http'
import { text } from 'node:stream/consumers'
import pg from 'pg'
import { connectKeystore } from 'signal-keystore-baileys'
import { useLimitAuthState } from './limit.mjs'
import { valuesOf } from './values.mjs'

const { database, login, service, token, company, sessions, rounds, calls } = JSON.parse(await text(process.stdin))

const agent = new Agent({ keepAlive: true, maxSockets: 1 })
const ask = (method, path, body) =>
  new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
    const sent = request(service + path, { method, agent, headers }, async response => {
      const answer = await text(response)
      if (response.statusCode < 300) resolve(answer)
      else reject(new Error(`${method} ${path}: ${response.statusCode} ${answer}`))
    })
    sent.on('error', reject)
    sent.end(body)
  })

const client = new pg.Client({ connectionString: database })
await client.connect()
const limit = await useLimitAuthState(client, company)
const over = { http: connectKeystore(service, { token }), straight: connectKeystore(login) }
const http = await over.http.authState(company)
const straight = await over.straight.authState(`${company}1`)

const values = Object.entries(valuesOf({ session: sessions }).session)
const bodies = Object.entries(sessions).map(([id, value]) => `{"session":{${JSON.stringify(id)}:${value}}}`)
const at = n => n % values.length
const keys = n => ({ session: { [values[at(n)][0]]: values[at(n + 1)][1] } })

const acts = {
  query: () => client.query({ name: 'one', text: 'SELECT 1', values: [] }),
  upsert: n => limit.state.keys.set(keys(n)),
  straight: n => straight.state.keys.set(keys(n)),
  alive: () => ask('GET', '/healthz', ''),
  request: n => ask('POST', `/v1/companies/${company}2/keys`, bodies[at(n)]),
  http: n => http.state.keys.set(keys(n))
}

const ms = Object.fromEntries(Object.keys(acts).map(name => [name, []]))
let n = 0
for (let round = -2; round < rounds; round++) {
  for (const [name, act] of Object.entries(acts)) {
    for (let call = 0; call < calls; call++) {
      const began = performance.now()
      await act(n++)
      if (round >= 0 && call > 0) ms[name].push(performance.now() - began)
    }
  }
}
await Promise.all([over.http.close(), over.straight.close(), client.end()])
process.stdout.write(JSON.stringify({ ms }))
process.exit(0)
