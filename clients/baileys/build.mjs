/** Builds `dist`: ES modules, and in `dist/cjs` the same as CommonJS. TypeScript takes the format from the package.json beside. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const COMMONJS = '{"type": "commonjs"}\n'
const compiler = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const compile = project => execFileSync(process.execPath, [compiler, '-p', project], { stdio: 'inherit' })

for (const folder of ['dist', 'build']) rmSync(folder, { recursive: true, force: true })
compile('tsconfig.json')
cpSync('src', 'build/src', { recursive: true })
writeFileSync('build/package.json', COMMONJS)
compile('tsconfig.cjs.json')
mkdirSync('dist/cjs', { recursive: true })
writeFileSync('dist/cjs/package.json', COMMONJS)
rmSync('build', { recursive: true })
