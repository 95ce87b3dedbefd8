// The routes: what each matches, requires and leads to, and how it is used. The gateway searches and puts them in order; a page is shown.

import { get } from './api.js'
import { choice, field, h, list, pager, pill, render, table } from './dom.js'
import { number, plural } from './format.js'

const SIZE = 50
const ORDERS = [['config', 'As in the config'], ['name', 'By name'], ['requests', 'Most requests first'], ['refused', 'Most refused first'], ['would-deny', 'Most would-refuse first']]
let state = {}, results, typing, turn = 0

const link = (route, decision, count) => count > 0 ? h('a', { href: `#decisions?decision=${decision}&route=${encodeURIComponent(route.name)}` }, number(count)) : '0'

const most = (route, decision) => { const code = route.codes.find(code => code.decision === decision); return code && h('div', { class: 'quiet' }, code.code) }

const columns = [
  { title: 'Route', head: true, cell: route => [route.name, route.mode && ' ', route.mode && pill('note', 'Report-only'), route.anonymous && ' ', route.anonymous && pill('warn', 'Anonymous')].filter(Boolean) },
  { title: 'Matches', kind: 'match', cell: route => [
    h('div', { class: 'code' }, `${route.hosts.length ? route.hosts.slice(0, 3).join(', ') : 'any host'}${route.hosts.length > 3 ? ` and ${route.hosts.length - 3} more` : ''}`),
    h('div', { class: 'code' }, route.path, !route.exact && h('span', { class: 'quiet' }, ' and below')),
    h('div', { class: 'quiet' }, route.methods.length === 7 ? 'all usual methods' : route.methods.join(', '))] },
  { title: 'Requires and does', kind: 'what', cell: route => route.policies.length ? list(route.policies.map(policy => [policy.words || policy.at, policy.report_only && ' ', policy.report_only && pill('note', 'Report-only')].filter(Boolean))) : h('span', { class: 'quiet' }, 'nothing') },
  { title: 'Leads to', cell: route => [route.answer ?? route.upstreams.join(', '), route.authorization && h('div', { class: 'quiet' }, `Authorization: ${route.authorization}`)] },
  { title: 'Allowed', number: true, cell: route => link(route, 'allow', route.allowed) },
  { title: 'Refused', number: true, cell: route => [link(route, 'deny', route.refused), most(route, 'deny')] },
  { title: 'Failed', number: true, cell: route => [link(route, 'error', route.failed), most(route, 'error')] },
  { title: 'Would refuse', number: true, cell: route => link(route, 'would-deny', route.would_deny) },
]

const load = async () => {
  const own = ++turn
  const page = await get('api/routes', { text: state.text || undefined, order: state.order, offset: state.offset, limit: SIZE })
  if (own !== turn || !results.isConnected) return
  if (page.offset >= page.matching && page.offset > 0) { state.offset = Math.max(0, Math.floor((page.matching - 1) / SIZE) * SIZE); return load() }
  const said = page.matching === page.total ? plural(page.total, 'route') : `${number(page.matching)} of ${plural(page.total, 'route')}`
  render(results, h('p', { class: 'quiet', role: 'status' }, said), table('Routes', columns, page.routes, { empty: 'No route has this text.' }),
    page.matching > SIZE && pager(state.offset, SIZE, page.matching, from => { state.offset = from; load().then(() => scrollTo(0, 0)) }))
}

const remember = () => {
  const search = new URLSearchParams(Object.entries({ text: state.text, order: state.order === 'config' ? '' : state.order }).filter(([, value]) => value)).toString()
  history.replaceState(null, '', search ? `#routes?${search}` : '#routes')
}

const take = parameters => { state = { text: parameters.text ?? '', order: ORDERS.some(([order]) => order === parameters.order) ? parameters.order : 'config', offset: 0 } }

export default {
  enter(place, parameters) {
    take(parameters)
    results = h('div', { id: 'routes' })
    const type = event => { state.text = event.target.value; state.offset = 0; clearTimeout(typing); typing = setTimeout(() => { remember(); load() }, 200) }
    place.append(h('h2', {}, 'Routes'), h('form', { class: 'filters', submit: event => event.preventDefault() },
      field('route-text', 'Search names, hosts, paths, policies, upstreams', { type: 'search', class: 'wide', value: state.text, input: type }),
      choice('route-order', 'Order', ORDERS, state.order, value => { state.order = value; state.offset = 0; remember(); load() })), results)
  },
  changed(_, parameters) {
    take(parameters)
    document.getElementById('route-text').value = state.text
    document.getElementById('route-order').value = state.order
  },
  refresh: load,
  leave() { clearTimeout(typing) },
}
