// One record, opened: what happened, why, and how to ask again.

import { get, post } from './api.js'
import { h, list, pill, table } from './dom.js'
import { bytes, decision, duration, moment, words } from './format.js'

const dialog = document.getElementById('record')
const GROUPS = {
  Request: ['time', 'request_id', 'caller_request_id', 'record_id', 'trace_id', 'method', 'host', 'path', 'http_version', 'user_agent', 'listener', 'tls_version'],
  Caller: ['caller', 'address_source', 'peer', 'proxy', 'partner', 'api_key', 'client_certificate'],
  Token: ['token_kind', 'client_application', 'credential_kind', 'tenant_id', 'issuer', 'audience', 'subject', 'object_id', 'scopes', 'roles', 'token_id', 'claims', 'token_seen', 'token_facts'],
  Decision: ['decision', 'code', 'policy', 'cause', 'mode', 'would_deny', 'candidate', 'notes', 'config'],
  Answer: ['route', 'upstream', 'server', 'credential', 'status', 'complete', 'ended_by', 'bytes_in', 'bytes_out', 'duration_us', 'policies_us', 'credential_us', 'upstream_us'],
}
const SHOWN = new Set([...Object.values(GROUPS).flat(), 'hint'])
// Times its own calls: only the last record that was opened is shown.
let turn = 0

export const open = (one, around) => {
  turn += 1
  const { record } = one
  const close = () => dialog.close()
  const step = (title, next) => around && h('button', { type: 'button', disabled: !next, click: () => open(next, around) }, title)
  const { newer, older } = around?.(one.number) ?? {}
  const why = h('div', {}, record.event ? '' : h('p', { class: 'quiet' }, 'Asking the gateway…'))
  dialog.replaceChildren(
    h('div', { class: 'top' }, pill(...decision(record)), record.status && h('span', {}, String(record.status)),
      h('h2', { id: 'record-title' }, record.event ? words(record.event) : `${record.code ?? 'Served'}: ${record.method ?? ''} ${record.path ?? ''}`),
      step('Newer', newer), step('Older', older), h('button', { type: 'button', click: close, autofocus: true }, 'Close')),
    h('div', { class: 'inside' },
      record.hint && h('p', { class: 'hint' }, h('strong', {}, 'What would help: '), record.hint),
      record.cause && h('p', {}, h('strong', {}, 'Cause: '), record.cause),
      timing(record), why, fields(record)))
  dialog.scrollTop = 0
  if (!dialog.open) dialog.showModal()
  if (!record.event) explain(record, why, turn)
}
dialog.addEventListener('click', event => { if (event.target === dialog) dialog.close() })

// How long its parts took.
const timing = record => {
  if (!record.duration_us) return undefined
  const parts = [['Policies', record.policies_us], ['Credential', record.credential_us], ['Upstream', record.upstream_us]].map(([title, micros]) => [title, micros ?? 0])
  const rest = Math.max(0, record.duration_us - parts.reduce((sum, [, micros]) => sum + micros, 0))
  const all = [...parts, ['Transfer and the rest', rest]].filter(([, micros]) => micros > 0)
  return h('p', {}, h('strong', {}, `Took ${duration(record.duration_us)}: `), all.map(([title, micros]) => `${title.toLowerCase()} ${duration(micros)}`).join(', '))
}

const MICROS = /_us$/
const show = (name, value) => {
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (Array.isArray(value)) return list(value.map(item => typeof item === 'object' && item !== null ? h('dl', {}, pairs(item)) : String(item)))
  if (typeof value === 'object' && value !== null) return h('dl', {}, pairs(value))
  if (MICROS.test(name)) return duration(value)
  if (/^bytes_/.test(name)) return bytes(value)
  if (name === 'time') return `${moment(value)} (${value})`
  return String(value)
}
const pairs = object => Object.entries(object).map(([name, value]) => [h('dt', {}, words(name.replace(MICROS, ''))), h('dd', {}, show(name, value))])

const fields = record => {
  const rest = Object.keys(record).filter(name => !SHOWN.has(name))
  const groups = [...Object.entries(GROUPS), ['Further fields', rest]]
  return h('div', { class: 'fields' }, groups.map(([title, names]) => {
    const present = names.filter(name => record[name] !== undefined)
    return present.length > 0 && h('div', {}, h('h3', {}, title), h('dl', {}, present.map(name => [h('dt', {}, words(name.replace(MICROS, ''))), h('dd', {}, show(name, record[name]))])))
  }))
}

// The question that the record answers, as far as it goes.
const question = record => {
  const host = record.host ?? ''
  const url = `${record.tls_version ? 'https' : 'http'}://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}${record.path}`
  const from = record.peer.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  const headers = {}
  if (record.address_source === 'x-forwarded-for') headers['X-Forwarded-For'] = record.caller
  if (record.address_source === 'forwarded') headers.Forwarded = record.caller.includes(':') ? `for="[${record.caller}]"` : `for=${record.caller}`
  return { method: record.method, url, from, headers, listener: record.listener, tls: Boolean(record.tls_version), http2: record.http_version === '2', at: record.time }
}

const OUTCOMES = { passed: ['good', 'Passed'], refused: ['bad', 'Refused'], answered: ['note', 'Answered'], 'would-refuse': ['warn', 'Would refuse'], 'not-judged': ['note', 'Not judged again'] }

// The gateway makes one explanation at a time: who meets another one waits for it.
const explanation = async (asked, own, tries = 15) => {
  try {
    return await post('api/explain', asked)
  } catch (problem) {
    if (problem.status !== 429 || tries === 0 || own !== turn) throw problem
    await new Promise(resolve => setTimeout(resolve, 1000))
    return explanation(asked, own, tries - 1)
  }
}

const explain = async (record, place, own) => {
  let parts
  if (!record.method || !record.path || !record.host) {
    parts = [h('p', { class: 'quiet' }, 'The request could not be read, so there are no steps: the cause above is all there is.')]
  } else {
    try {
      parts = steps(record, await explanation(question(record), own))
    } catch (problem) {
      parts = [h('p', { class: 'quiet' }, `The steps cannot be shown: ${problem.message}.`)]
    }
  }
  parts.push(...await commands(record).catch(() => []))
  if (own === turn) place.replaceChildren(h('h3', {}, 'Why'), ...parts)
}

// What the record has of the caller, which the steps of a repetition without a token cannot show.
const known = record => [
  record.token_kind && `${record.token_kind === 'app' ? "an application's" : "a user's"} token`,
  record.audience && `for ${[record.audience].flat().join(', ')}`, record.client_application && `client ${record.client_application}`,
  record.scopes && `scopes ${record.scopes.join(' ')}`, record.roles && `roles ${record.roles.join(' ')}`,
  record.token_seen && 'a token whose signature was not verified', record.api_key && `the API key ${record.api_key}`].filter(Boolean)

const steps = (record, explained) => {
  const code = explained.code ?? undefined
  // Where the repetition ends for want of a token that the request had, it says nothing against it.
  const without = code === 'token-missing' && code !== record.code
  const rows = explained.steps.map(step => without && step.code === 'token-missing' ? { ...step, outcome: 'not-judged', found: known(record), reason: '' } : step)
  const decided = record.policy && !rows.some(step => step.at === record.policy)
  if (decided) rows.push({ at: record.policy, policy: record.policy.split('.').at(-1), outcome: record.decision === 'allow' ? 'answered' : 'refused', looked_at: '', wanted: [], found: known(record), reason: record.cause ?? '' })
  const skipped = explained.not_reached.filter(at => at !== record.policy)
  const said = code === record.code ? 'The config in force decides a request like this in the same way.'
    : without ? 'A record has no token, no query and no header fields. What looks at them is not judged again; the record says how that went.'
      : `Without the token, the query and the header fields, which a record does not have, the config in force decides: ${code ?? explained.verdict}.`
  const values = items => list(items.map(item => h('code', {}, item)))
  return [
    h('p', { class: 'quiet' }, said),
    table('The steps of the decision', [
      { title: 'Step', head: true, cell: step => [step.policy, h('div', { class: 'quiet' }, step.at, step.place && `, line ${step.place.line}`)] },
      { title: 'Outcome', cell: step => [pill(...OUTCOMES[step.outcome] ?? ['note', step.outcome]), record.policy === step.at && ' ', record.policy === step.at && pill('note', 'Decided')].filter(Boolean) },
      { title: 'Looked at', cell: step => step.looked_at },
      { title: 'Wanted', cell: step => values(step.wanted) },
      { title: 'Found', kind: 'what', cell: step => [values(step.found), step.reason && h('div', { class: 'quiet' }, step.reason)] },
    ], rows, { empty: record.route ? 'The route has no policies.' : 'No route takes this request.' }),
    skipped.length > 0 && h('p', { class: 'quiet' }, `${record.decision === 'allow' ? 'Further entries' : 'Not reached'}: ${skipped.join(', ')}`),
    !record.route && explained.routes_considered.length > 0 && h('p', { class: 'quiet' }, `Nearest routes: ${explained.routes_considered.map(route => `${route.name} (${route.why_not})`).join('; ')}`),
    code === record.code && explained.turning && turning(explained.turning),
  ].filter(Boolean)
}

const turning = ({ facts, leads_to, who }) => facts.length > 0 && h('p', {}, h('strong', {}, 'What would turn it: '),
  facts.map(({ name, from, to }) => `${name}: ${to} instead of ${from || 'nothing'}`).join('; and '),
  leads_to && `; that leads to ${leads_to}`, who.length > 0 && `. Who can: ${who.join('; ')}`)

// A word for a shell, whatever a caller has put into it.
const quoted = text => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

const commands = async record => {
  if (!record.request_id) return []
  const { files } = await get('api/config')
  const id = quoted(record.request_id), config = files[0] ? ` ${quoted(files[0])}` : ''
  const lines = [
    ['With the file of records', `entrada explain${config} --record audit.jsonl --request-id ${id}`],
    ['With the record as it is kept here', `curl -s ${quoted(`${location.origin}/api/decisions?text=${encodeURIComponent(record.request_id)}`)} | jq -c '.decisions[].record' | entrada explain${config} --record - --request-id ${id}`],
  ]
  return [h('h3', {}, 'To paste into a terminal'), ...lines.map(([title, line]) => {
    const copy = h('button', { type: 'button', click: async () => { await navigator.clipboard?.writeText(line); copy.textContent = 'Copied' } }, 'Copy')
    return h('div', {}, h('p', { class: 'quiet' }, title), h('div', { class: 'paste' }, h('pre', { tabindex: '0' }, h('code', {}, line)), copy))
  })]
}
