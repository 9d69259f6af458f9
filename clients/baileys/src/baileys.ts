/** The parts of Baileys that this package uses: of the installed one, or of a fork that the bot hands in. */
import { KeystoreError } from './errors.js'

/** Baileys itself, or a fork of it: `import * as baileys from '…'`. */
export interface Baileys {
  initAuthCreds(): object
  readonly BufferJSON: {
    replacer(this: void, key: string, value: any): unknown
    reviver(this: void, key: string, value: any): unknown
  }
  readonly proto: { readonly Message: { readonly AppStateSyncKeyData: { fromObject(object: Record<string, any>): object } } }
}

/** @ts-ignore It may be installed under its longer name only. */
type Short = import('baileys').AuthenticationState
/** @ts-ignore It may be installed under its shorter name only. */
type Long = import('@whiskeysockets/baileys').AuthenticationState

/** The auth state of the installed Baileys; any if there is none. */
export type AuthenticationState = [0] extends [1 & Short] ? Long : Short

/** Returns the Baileys that was handed in, or else the installed one. Throws KeystoreError if there is none. */
export async function findBaileys(handedIn: Baileys | undefined): Promise<Baileys> {
  if (handedIn) return named(handedIn)
  let failure: unknown
  try {
    return named(await import('baileys'))
  } catch (error) {
    failure = error
  }
  try {
    // @ts-ignore Its types are those of the shorter name.
    return named(await import('@whiskeysockets/baileys'))
  } catch (error) {
    throw new KeystoreError(
      'Baileys: neither baileys nor @whiskeysockets/baileys can be loaded; install one of them, or hand a fork in with the ' +
        `option baileys (${[failure, error].map(reason => String(reason).split('\n', 1)[0]).join('; ')})`
    )
  }
}

/** Baileys 6 is CommonJS, so some names may only be in its default export. */
function named(module: unknown): Baileys {
  return 'proto' in (module as object) ? (module as Baileys) : (module as { default: Baileys }).default
}
