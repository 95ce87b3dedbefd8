// Parts of the status that not every gateway has: sinks of records, a candidate config, a store of limits. Each is shown as soon as the
// status has it, whatever its members.

import { get } from './api.js'
import { h, pill, section, table } from './dom.js'
import { number, words } from './format.js'

const PARTS = { sinks: 'Audit sinks', spool: 'Spool', candidate: 'Candidate config', limit_store: 'Store of limits' }
const GOOD = new Set(['up', 'ok', 'ready', 'connected', 'active', 'healthy', 'open'])
const BAD = new Set(['down', 'failed', 'failing', 'full', 'error', 'unreachable', 'disconnected'])

const value = (name, content) => {
  if (content === null || content === undefined) return ''
  if (typeof content === 'boolean') return pill(content ? 'good' : 'warn', content ? 'yes' : 'no')
  if (typeof content === 'number') return number(content)
  if (Array.isArray(content)) return content.length && typeof content[0] === 'object' ? nested(content) : content.join(', ')
  if (typeof content === 'object') return nested([content])
  if (name === 'state') return pill(GOOD.has(content) ? 'good' : BAD.has(content) ? 'bad' : 'warn', content)
  return /error|cause/.test(name) ? h('span', { class: 'bad-text' }, content) : content
}

// A few members within a cell.
const nested = items => h('ul', {}, items.map(item => h('li', {}, Object.entries(item).map(([name, content], index) => [
  index > 0 && '; ', `${name.replaceAll('_', ' ')} `, typeof content === 'object' && content !== null ? JSON.stringify(content) : value(name, content)]))))

export const extra = async () => {
  const status = await get('api/status', { parts: Object.keys(PARTS).join(',') })
  return Object.entries(PARTS).filter(([part]) => status[part] !== undefined && status[part] !== null).map(([part, title]) => {
    const rows = [status[part]].flat()
    const names = [...new Set(rows.flatMap(row => Object.keys(row)))]
    return section(title, table(title, names.map((name, index) => ({
      title: words(name), head: index === 0, number: rows.every(row => typeof row[name] === 'number'), cell: row => value(name, row[name]),
    })), rows))
  })
}
