// The gateway at a glance: what needs attention, how much it serves, and whom it refused last.

import { get } from './api.js'
import { extra } from './extra.js'
import { h, pill, render, section, svg, table } from './dom.js'
import { ago, clock, decision, number, plural, rate, share, span, words } from './format.js'
import { open } from './record.js'

const WORDS = { bad: 'Act now', warn: 'Look at it', note: 'To know' }
const KINDS = ['failed', 'refused', 'allowed']

// What is shown, so that the chart can be drawn again without a question.
let drawn

const draw = () => {
  const { place, status, last, refused, more } = drawn
  render(place, tiles(status), chart(status.history), attention(status), h('div', { class: 'columns' }, refusals(last), worst(refused)), more)
}

export default {
  async refresh(place, _, status) {
    const [last, refused, more] = await Promise.all([
      get('api/decisions', { decision: 'deny,error', limit: 8 }), get('api/routes', { order: 'refused', limit: 5 }), extra()])
    drawn = { place, status, last, refused, more }
    if (place.dataset.view === 'overview') draw()
  },
}

const tile = (title, value, sub) => h('div', { class: 'tile' }, h('dt', {}, title), h('dd', {}, value), sub && h('dd', { class: 'sub' }, sub))

const tiles = status => {
  const { allowed, refused, failed } = status.requests, all = allowed + refused + failed
  const now = status.history.samples.at(-1) ?? { allowed: 0, refused: 0, failed: 0 }
  const total = now.allowed + now.refused + now.failed
  return h('dl', { class: 'tiles' },
    tile('Requests a second', rate(total), `${number(all)} since the start`),
    tile('Refused a second', rate(now.refused), `${number(refused)}, ${share(refused, all)} of all`),
    tile('Failed a second', rate(now.failed), `${number(failed)}, ${share(failed, all)} of all`),
    tile('Under way', number(status.requests_under_way), plural(status.connections, 'connection')),
    tile('Up for', span(status.now - status.started_at), `${plural(status.routes, 'route')}, ${plural(status.partners, 'partner')}, ${plural(status.upstreams, 'upstream')}`))
}

// The moment under the pointer, by its index from the end, so that it stays where it is when new samples come.
let chosen

const chart = ({ samples, every_seconds }) => {
  const width = 180, height = 100, count = samples.length
  const top = Math.max(1, ...samples.map(sample => sample.allowed + sample.refused + sample.failed))
  const x = index => width - (count - 1 - index), y = value => height - value / top * (height - 4)
  const areas = KINDS.map((kind, layer) => {
    const below = sample => KINDS.slice(0, layer).reduce((sum, name) => sum + sample[name], 0)
    const upper = samples.map((sample, index) => `${x(index)},${y(below(sample) + sample[kind]).toFixed(2)}`)
    const lower = samples.map((sample, index) => `${x(index)},${y(below(sample)).toFixed(2)}`).reverse()
    return svg('polygon', { class: kind, points: [...upper, ...lower].join(' ') })
  })
  const index = chosen === undefined ? count - 1 : Math.max(0, count - 1 - chosen), sample = samples[index]
  const say = sample => `${clock(sample.at)}: ${rate(sample.allowed)} allowed, ${rate(sample.refused)} refused, ${rate(sample.failed)} failed a second`
  const choose = from => { chosen = from === undefined ? undefined : Math.min(Math.max(0, from), count - 1); draw() }
  const minutes = Math.round(width * every_seconds / 60)
  return h('section', {}, h('h2', {}, 'Requests a second'), h('figure', {},
    svg('svg', {
      viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'slider', tabindex: '0', 'aria-label': 'Requests a second over time',
      'aria-valuemin': '0', 'aria-valuemax': String(Math.max(0, count - 1)), 'aria-valuenow': String(Math.max(0, index)),
      'aria-valuetext': sample ? say(sample) : 'No sample yet', 'aria-orientation': 'horizontal',
      pointermove: event => {
        const box = event.currentTarget.getBoundingClientRect()
        const from = Math.round((1 - (event.clientX - box.left) / box.width) * width)
        if (from !== chosen) choose(from)
      },
      pointerleave: () => choose(undefined),
      keydown: event => {
        const step = { ArrowLeft: 1, ArrowRight: -1, PageUp: 12, PageDown: -12 }[event.key]
        if (step) { event.preventDefault(); choose((chosen ?? 0) + step) }
      },
      blur: () => choose(undefined),
    },
    [0.25, 0.5, 0.75].map(part => svg('line', { class: 'grid', x1: '0', x2: String(width), y1: String(height * part), y2: String(height * part) })),
    count > 1 && areas, chosen !== undefined && count > 0 && svg('line', { class: 'cursor', x1: String(x(index)), x2: String(x(index)), y1: '0', y2: String(height) })),
    h('div', { class: 'axis' }, h('span', {}, `${minutes} min ago`), h('span', {}, `at most ${rate(top)} a second`), h('span', {}, 'now')),
    h('figcaption', {}, ['allowed', 'refused', 'failed'].map(kind => h('span', { class: `key ${kind}` }, words(kind))),
      h('span', {}, sample ? say(sample) : 'The first sample comes within seconds.'))))
}

const attention = status => section('Needs attention', table('What needs attention', [
  { title: 'State', cell: matter => pill(matter.state, WORDS[matter.state] ?? matter.state) },
  { title: 'What', kind: 'what', cell: matter => matter.what },
  { title: 'See', cell: matter => h('a', { href: `#${matter.view}` }, words(matter.view)) },
], status.attention, { empty: 'Nothing needs attention.' }))

const refusals = last => section('Latest refusals and failures', table('Latest refusals and failures', [
  { title: 'When', kind: 'time', cell: ({ record }) => ago(record.time) },
  { title: 'State', cell: ({ record }) => pill(...decision(record)) },
  { title: 'Code', cell: one => h('button', { type: 'button', class: 'link', click: () => open(one) }, one.record.code ?? 'open') },
  { title: 'Route', cell: ({ record }) => record.route },
  { title: 'Caller', kind: 'any', cell: ({ record }) => record.partner ?? record.client_application ?? record.caller ?? record.peer },
], [...last.decisions].reverse(), { empty: 'Nobody was refused among the latest requests.' }))

const worst = ({ routes }) => section('Most refused routes', table('Most refused routes', [
  { title: 'Route', head: true, cell: route => h('a', { href: `#routes?text=${encodeURIComponent(route.name)}` }, route.name) },
  { title: 'Refused', number: true, cell: route => route.refused ? h('a', { href: `#decisions?decision=deny&route=${encodeURIComponent(route.name)}` }, number(route.refused)) : '0' },
  { title: 'Failed', number: true, cell: route => number(route.failed) },
  { title: 'Most often', cell: route => route.codes[0] && `${route.codes[0].code} (${number(route.codes[0].count)})` },
], routes.filter(route => route.refused + route.failed > 0), { empty: 'No route has refused a request.' }))
