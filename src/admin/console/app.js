// The frame: which view is shown, its refreshes, and the state of the gateway in the head.

import { asksWith, get } from './api.js'
import config from './config.js'
import decisions from './decisions.js'
import { h, pill, render } from './dom.js'
import { plural, span } from './format.js'
import { identity, partners, upstreams } from './inventory.js'
import overview from './overview.js'
import routes from './routes.js'

const VIEWS = { overview, decisions, routes, identity, partners, upstreams, config }
const EVERY = 5000
const place = document.getElementById('view')
let shown

// `#routes?text=orders` is the view and what it is asked for.
const where = () => {
  const [name, search] = location.hash.slice(1).split('?')
  return { name: VIEWS[name] ? name : 'overview', parameters: Object.fromEntries(new URLSearchParams(search)) }
}

const navigation = attention => {
  const { name } = where()
  render(document.getElementById('views'), Object.keys(VIEWS).map(view => {
    const count = attention.filter(matter => matter.view === view && matter.state !== 'note').length
    return h('li', {}, h('a', { href: `#${view}`, 'aria-current': view === name && 'page' }, view[0].toUpperCase() + view.slice(1),
      count > 0 && h('span', { class: 'count' }, String(count), h('span', { class: 'hidden' }, count === 1 ? ' needs attention' : ' need attention'))))
  }))
}

const head = async () => {
  const state = document.getElementById('state')
  try {
    const status = await get('api/overview')
    const [kind, text] = status.draining ? ['warn', 'Draining'] : status.ready ? ['good', 'Ready'] : ['bad', 'Not ready']
    render(state, pill(kind, text), !status.ready && !status.draining && ` waits for ${status.waiting_for.join(', ')}`)
    render(document.getElementById('facts'), `${status.version} · config ${status.digest.slice(0, 8)}, ${plural(status.generation, 'reload')} · up ${span(status.now - status.started_at)}`)
    document.title = `${status.ready ? '' : '! '}entrada`
    navigation(status.attention)
    return status
  } catch (problem) {
    render(state, pill('bad', 'No answer'), ` ${problem.message}`)
    return undefined
  }
}

let turn = 0
const refresh = async () => {
  const own = ++turn, { name, parameters } = where()
  const status = await head()
  if (own !== turn || !status) return
  try {
    await VIEWS[name].refresh?.(place, parameters, status, refresh)
  } catch (problem) {
    if (own === turn) render(place, h('p', { class: 'bad-text', role: 'alert' }, `This view cannot be shown: ${problem.message}`))
  }
}

const show = async () => {
  const { name, parameters } = where()
  if (shown !== name) {
    VIEWS[shown]?.leave?.()
    place.replaceChildren()
    place.dataset.view = name
    if (shown) { place.focus({ preventScroll: true }); scrollTo(0, 0) }
    shown = name
    VIEWS[name].enter?.(place, parameters)
  } else VIEWS[name].changed?.(place, parameters)
  navigation([])
  await refresh()
}

// The dialog that asks for a token. It is answered with one, or stays.
asksWith(why => new Promise(resolve => {
  const dialog = document.getElementById('token')
  const send = event => {
    event.preventDefault()
    const value = dialog.querySelector('textarea').value.trim().replace(/^Bearer\s+/i, '')
    if (!value) return
    dialog.close()
    dialog.replaceChildren()
    resolve(value)
  }
  dialog.replaceChildren(h('form', { class: 'inside', submit: send },
    h('div', { class: 'top' }, h('h2', { id: 'token-title' }, 'This console asks for a token')),
    h('p', {}, 'It is sent to this gateway with each question, and kept in this page until you leave it.'),
    why && h('p', { class: 'bad-text', role: 'alert' }, `The last one was refused: ${why}`),
    h('label', { for: 'token-value' }, 'Access token'), h('textarea', { id: 'token-value', rows: '5', spellcheck: 'false', autocomplete: 'off', required: true }),
    h('p', {}, h('button', { type: 'submit' }, 'Use this token'))))
  if (!dialog.open) dialog.showModal()
  dialog.oncancel = event => event.preventDefault()
}))

addEventListener('hashchange', show)
addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); VIEWS[shown]?.visible?.(!document.hidden) })
setInterval(() => { if (!document.hidden && !document.querySelector('dialog[open]')) refresh() }, EVERY)
show()
