/** A TCP relay between the client and a server, which fails on request. */
import { createConnection, createServer } from 'node:net'

export class Relay {
  /** Called before each answer of the server is passed on. */
  onAnswer = async () => {}
  #failures = []
  #sockets = new Set()
  #server

  /** `target` is the host and port of the server. */
  static async start(target) {
    const relay = new Relay()
    relay.#server = createServer(socket => relay.#relay(socket, createConnection(target)))
    await new Promise(resolve => relay.#server.listen(0, '127.0.0.1', resolve))
    relay.port = relay.#server.address().port
    return relay
  }

  /** Makes the next messages fail: the connection ends before ('drop') or after ('lose') the server has answered. */
  fail(...failures) {
    this.#failures.push(...failures)
  }

  /** Takes the failures back that nothing has had yet. */
  recover() {
    this.#failures = []
  }

  /** Passes nothing on any more over the present connections, which stay open. */
  hush() {
    for (const socket of this.#sockets) socket.pause().removeAllListeners('data')
  }

  /** The number of connections on both sides. */
  get connections() {
    return this.#sockets.size
  }

  async stop() {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise(resolve => this.#server.close(resolve))
  }

  #relay(client, server) {
    const end = () => (client.destroy(), server.destroy())
    let passing = Promise.resolve()
    let failure
    for (const socket of [client, server]) {
      this.#sockets.add(socket)
      socket.on('error', end).on('close', () => (this.#sockets.delete(socket), passing.then(end)))
    }
    client.on('data', chunk => {
      failure ??= this.#failures.shift()
      if (failure === 'drop') end()
      else server.write(chunk)
    })
    server.on('data', chunk => {
      passing = passing.then(async () => {
        await this.onAnswer()
        if (failure === 'lose') end()
        else client.write(chunk)
        failure = undefined
      })
    })
  }
}
