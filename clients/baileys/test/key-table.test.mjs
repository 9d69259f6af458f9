import assert from 'node:assert/strict'
import { test } from 'node:test'

import { KeyTable } from '../dist/key-table.js'

const IDS = ['a', 'a.0', 'a.1', 'ab', 'b', '1', '10', '9', 'ü', '😀', 'A-1@g.us::4.0::0', '__index', 'a a', '~']

test('a table of keys has what a map has, in order', () => {
  let seed = 7
  const random = below => (seed = (seed * 48271) % 2147483647) % below
  const map = new Map([['b', '0'], ['a.0', '1'], ['1', '2']])
  const table = new KeyTable(map)
  for (let step = 0; step < 3_000; step += 1) {
    const id = IDS[random(IDS.length)]
    const act = random(100)
    if (act < 60) map.set(id, `"${step}"`), table.set(id, `"${step}"`)
    else if (act < 99) map.delete(id), table.delete(id)
    else map.clear(), table.clear()
    assert.equal(table.size, map.size)
    for (const each of [...IDS, 'none', '']) assert.equal(table.get(each), map.get(each))
    assert.deepEqual(new Map(table), map)
  }
})

test('an iteration goes on while keys come and go', () => {
  const table = new KeyTable([['c', '3'], ['a', '1'], ['e', '5']])
  const seen = []
  for (const [id] of table) {
    seen.push(id)
    if (id === 'a') table.delete('a'), table.set('b', '2'), table.set('0', '0')
    if (id === 'c') table.set('c', '33'), table.delete('e'), table.set('d', '4')
  }
  assert.deepEqual(seen, ['a', 'b', 'c', 'd'])
  assert.deepEqual([...table], [['0', '0'], ['b', '2'], ['c', '33'], ['d', '4']])
})
