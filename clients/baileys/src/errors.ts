/** What goes wrong, as types: catch the base, or what you can act on. No message or field holds a value or a token. */

export class KeystoreError extends Error {
  override get name(): string {
    return this.constructor.name
  }
}

/** The service says no, and will say it again: a wrong token or company, or a request that it can't take. */
export class KeystoreRefused extends KeystoreError {
  constructor(
    message: string,
    readonly status: number,
    readonly slug: string
  ) {
    super(message)
  }
}

/** The service or its database didn't answer in time; a write stays here, and is tried again while the bot runs. */
export class KeystoreUnavailable extends KeystoreError {
  constructor(
    message: string,
    readonly retryAfterMs = 0
  ) {
    super(message)
  }
}

/** Another process holds the account's lease. */
export class KeystoreLeaseHeld extends KeystoreError {
  constructor(
    message: string,
    readonly holder: string,
    readonly expiresAt: Date
  ) {
    super(message)
  }
}

/** The lease has passed on: this process writes nothing any more. End it. */
export class KeystoreLeaseLost extends KeystoreError {}

/** Used after `close()`. */
export class KeystoreClosed extends KeystoreError {}
