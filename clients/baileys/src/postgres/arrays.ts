/** Arrays in PostgreSQL's binary form. As text, an array of values would be twice as long, and be parsed by the server. */

const TEXT = 25
const BYTEA = 17
const INTEGER = 23
const BIGINT = 20
const HEADER_BYTES = 20

export function texts(values: readonly string[]): Buffer {
  return array(TEXT, values.map(value => Buffer.from(value)))
}

/** An array of `bytea`; null is an element too. */
export function blobs(values: ReadonlyArray<Buffer | null>): Buffer {
  return array(BYTEA, values)
}

export function integers(values: readonly number[]): Buffer {
  return array(INTEGER, values.map(value => {
    const bytes = Buffer.allocUnsafe(4)
    bytes.writeInt32BE(value)
    return bytes
  }))
}

/** An array of `bigint`; undefined becomes null. */
export function bigints(values: ReadonlyArray<number | undefined>): Buffer {
  return array(BIGINT, values.map(value => {
    if (value === undefined) return null
    const bytes = Buffer.allocUnsafe(8)
    bytes.writeBigInt64BE(BigInt(value))
    return bytes
  }))
}

/** Number of dimensions, 1 if an element may be null, the type; then length and lower bound; then each length and element. */
function array(type: number, elements: ReadonlyArray<Buffer | null>): Buffer {
  const hasElements = elements.length > 0
  const size = elements.reduce((sum, element) => sum + 4 + (element?.length ?? 0), hasElements ? HEADER_BYTES : 12)
  const bytes = Buffer.allocUnsafe(size)
  bytes.writeInt32BE(hasElements ? 1 : 0, 0)
  bytes.writeInt32BE(elements.includes(null) ? 1 : 0, 4)
  bytes.writeInt32BE(type, 8)
  if (!hasElements) return bytes
  bytes.writeInt32BE(elements.length, 12)
  bytes.writeInt32BE(1, 16)
  let at = HEADER_BYTES
  for (const element of elements) {
    bytes.writeInt32BE(element?.length ?? -1, at)
    at += 4
    if (element) at += element.copy(bytes, at)
  }
  return bytes
}
