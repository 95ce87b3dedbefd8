// The newest decisions, filtered, and as they come.

import { Problem, follow, get } from './api.js'
import { choice, field, h, pill, render } from './dom.js'
import { decision, duration, number, precise } from './format.js'
import { open } from './record.js'

const FILTERS = ['decision', 'text', 'route', 'caller', 'partner', 'code']
// The most rows at once, and the most that wait while somebody reads further down.
const ROWS = 200
const CHOICES = [['', 'All'], ['allow', 'Allowed'], ['deny', 'Refused'], ['error', 'Failed'], ['deny,error', 'Refused or failed'], ['would-deny', 'Would be refused'], ['event', 'Events']]

let filters = {}, live = true, stop, newest = 0, oldest = 0, waiting = [], missed = 0, timer
let body, status, button, older, frame

const wanted = () => Object.fromEntries(FILTERS.map(name => [name, filters[name]]).filter(([name, value]) => value || name === 'route' && value === ''))

// Writes the filters into the address, so that the view can be sent to somebody.
const remember = () => {
  const search = new URLSearchParams(wanted()).toString()
  history.replaceState(null, '', search ? `#decisions?${search}` : '#decisions')
}

const row = one => {
  const { record } = one
  const cell = (title, content, kind) => h('td', { role: 'cell', 'data-label': title, class: kind }, content ?? '')
  return h('tr', { role: 'row', class: 'opens', 'data-number': String(one.number), click: event => { if (!event.target.closest('button') && !getSelection().toString()) open(one, around) } },
    h('th', { role: 'rowheader', scope: 'row' }, h('button', { type: 'button', class: 'link', click: () => open(one, around) }, precise(record.time), h('span', { class: 'hidden' }, ': open'))),
    cell('State', [pill(...decision(record)), record.would_deny && ' ', record.would_deny && pill('note', 'Would refuse')].filter(Boolean)),
    cell('Request', record.event ? record.detail : `${record.method ?? ''} ${record.host ?? ''}${record.path ?? ''}`.trim(), 'code'),
    cell('Status', record.status && String(record.status), 'number'),
    cell('Code', record.code ?? record.event),
    cell('Route', record.route),
    cell('Caller', record.partner ? `${record.partner} (${record.caller ?? record.peer})` : record.caller ?? record.peer, 'any'),
    cell('Took', duration(record.duration_us), 'number'))
}

// The records before and after one, for going through them while one is open.
const around = number => {
  const shown = [...body.rows].map(row => Number(row.dataset.number)), index = shown.indexOf(number)
  return { newer: records.get(shown[index - 1]), older: records.get(shown[index + 1]) }
}
const records = new Map()

const say = () => {
  const parts = [live ? stop ? 'Following live' : 'Reading every few seconds' : 'Paused', `${number(body.rows.length)} shown`]
  if (missed) parts.push(`${number(missed)} came too fast to be shown`)
  status.textContent = parts.join(' · ')
  button.hidden = !waiting.length
  button.textContent = `Show ${number(waiting.length)} new`
}

const add = (found, isNew) => {
  for (const one of found) {
    records.set(one.number, one)
    newest = Math.max(newest, one.number)
    const made = row(one)
    if (isNew) made.classList.add('new')
    body.prepend(made)
  }
  trim()
}

const trim = () => {
  while (body.rows.length > ROWS) {
    records.delete(Number(body.lastElementChild.dataset.number))
    body.lastElementChild.remove()
    older.hidden = true
  }
  frame.hidden = !body.rows.length
  frame.nextElementSibling.hidden = body.rows.length > 0
  oldest = Number(body.lastElementChild?.dataset.number ?? 0)
  say()
}

// New records come to the top; who reads further down is told of them and not moved.
const arrive = found => {
  if (!found.length) return
  if (scrollY > 200 || document.querySelector('dialog[open]')) {
    newest = Math.max(newest, found.at(-1).number)
    waiting = [...waiting, ...found].slice(-ROWS)
    say()
  } else add(found, true)
}

const load = async () => {
  const answer = await get('api/decisions', { ...wanted(), limit: 100 })
  body.replaceChildren()
  records.clear()
  waiting = []
  missed = 0
  newest = answer.newest
  add(answer.decisions, false)
  older.hidden = !answer.more
  say()
}

const loadOlder = async () => {
  const answer = await get('api/decisions', { ...wanted(), before: oldest, limit: 100 })
  for (const one of [...answer.decisions].reverse().slice(0, ROWS - body.rows.length)) {
    records.set(one.number, one)
    body.append(row(one))
  }
  trim()
  older.hidden = !answer.more || body.rows.length >= ROWS
  if (body.rows.length >= ROWS) status.textContent += ' · narrow the filters to see older ones'
}

const poll = async () => {
  const answer = await get('api/decisions', { ...wanted(), after: newest, limit: ROWS })
  missed += answer.missed
  arrive(answer.decisions)
  newest = answer.next
}

// Follows until something ends it, then goes on from there. Where too many follow already it asks every few seconds.
const run = async () => {
  halt()
  if (!live || document.hidden) return say()
  const own = new AbortController()
  stop = own
  say()
  try {
    await follow('api/decisions', { ...wanted(), follow: '', after: newest }, own.signal, events => {
      const found = []
      for (const one of events) {
        if (one.event === 'missed') missed += Number(one.data)
        else found.push({ number: Number(one.id), record: JSON.parse(one.data) })
      }
      arrive(found)
      say()
    })
  } catch (problem) {
    if (own.signal.aborted) return
    if (problem instanceof Problem && problem.status === 429) {
      stop = undefined
      await poll().catch(() => undefined)
    }
  }
  if (own.signal.aborted) return
  stop = undefined
  say()
  timer = setTimeout(run, 2000)
}

const halt = () => { clearTimeout(timer); stop?.abort(); stop = undefined }

const again = async () => { halt(); remember(); await load(); await run() }
let typing
const typed = (name, delay) => event => {
  filters[name] = event.target.value
  clearTimeout(typing)
  typing = setTimeout(again, delay)
}

export default {
  enter(place, parameters) {
    filters = { ...parameters }
    const input = (name, title, more = {}) => field(`filter-${name}`, title, { type: 'search', value: filters[name] ?? '', input: typed(name, 250), ...more })
    body = h('tbody', { role: 'rowgroup' })
    status = h('span', { role: 'status', class: 'quiet' })
    button = h('button', { type: 'button', hidden: true, click: () => { scrollTo(0, 0); const found = waiting; waiting = []; add(found, true) } }, 'Show new')
    older = h('button', { type: 'button', hidden: true, click: loadOlder }, 'Show older')
    const pause = h('button', { type: 'button', 'aria-pressed': 'true', click: () => { live = !live; pause.setAttribute('aria-pressed', String(live)); run() } }, 'Live')
    const titles = ['Time', 'State', 'Request', 'Status', 'Code', 'Route', 'Caller', 'Took']
    frame = h('div', { class: 'table', hidden: true }, h('table', { role: 'table', id: 'decisions' }, h('caption', { class: 'hidden' }, 'Decisions, the newest first'),
      h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, titles.map(title => h('th', { role: 'columnheader', scope: 'col', class: ['Status', 'Took'].includes(title) && 'number' }, title)))), body))
    live = true
    render(place)
    place.append(
      h('form', { class: 'filters', submit: event => event.preventDefault() },
        choice('filter-decision', 'State', CHOICES, filters.decision ?? '', value => { filters.decision = value; again() }),
        input('text', 'Text', { class: 'wide' }), input('code', 'Code'), input('route', 'Route'), input('caller', 'Caller'), input('partner', 'Partner')),
      h('div', { class: 'head' }, h('h2', {}, 'Decisions'), pause, status, button), frame,
      h('div', { class: 'table' }, h('p', { class: 'empty' }, 'No record is kept that fits.')), h('p', { class: 'pager' }, older))
    load().then(run, problem => { status.textContent = problem.message })
  },
  changed(place, parameters) {
    filters = { ...parameters }
    for (const name of FILTERS) { const input = document.getElementById(`filter-${name}`); if (input) input.value = filters[name] ?? '' }
    again()
  },
  visible(seen) { if (seen) poll().catch(() => undefined).then(run); else halt() },
  leave() { halt(); clearTimeout(typing) },
}
