// Elements, tables and their upkeep. Every text becomes a text node: what a caller sent is shown and never read as markup.

import { number } from './format.js'

// Makes an element: `h('td', { class: 'number' }, 'a', child)`. Attributes that are false or absent are left out; functions are listeners.
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children)

const SVG = 'http://www.w3.org/2000/svg'
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children)

const fill = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue
    if (typeof value === 'function') { element.addEventListener(name, value); (element.listens ??= {})[name] = value }
    else element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.flat(Infinity).filter(child => child !== undefined && child !== null && child !== false))
  return element
}

export const pill = (kind, text) => h('span', { class: `pill ${kind}` }, text)
export const list = items => items.length > 1 ? h('ul', {}, items.map(item => h('li', {}, item))) : items[0] ?? ''

// Makes `old` like `next`, touching only what differs: the focus, the scroll position and an open list stay.
export const patch = (old, next) => {
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName || (old.id || next.id) && old.id !== next.id) { old.replaceWith(next); return next }
  if (old.nodeType === Node.TEXT_NODE) { if (old.data !== next.data) old.data = next.data; return old }
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name)
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value)
  for (const [name, value] of Object.entries(old.listens ?? {})) old.removeEventListener(name, value)
  for (const [name, value] of Object.entries(next.listens ?? {})) old.addEventListener(name, value)
  old.listens = next.listens
  // What somebody types or has chosen is theirs.
  if (['INPUT', 'SELECT', 'TEXTAREA'].includes(old.nodeName)) return old
  const [before, after] = [[...old.childNodes], [...next.childNodes]]
  after.forEach((child, index) => before[index] ? patch(before[index], child) : old.append(child))
  before.slice(after.length).forEach(child => child.remove())
  return old
}

// Puts elements into a place, by patching what is there.
export const render = (place, ...children) => {
  const next = place.cloneNode(false)
  next.append(...children.flat(Infinity).filter(Boolean))
  next.listens = place.listens
  patch(place, next)
}

// Makes a table. A column is { title, number, head, cell }: its name, whether it is a number, whether it names the row, and what a row has there.
export const table = (caption, columns, rows, { empty = 'None.', row = () => ({}) } = {}) => {
  if (!rows.length) return h('div', { class: 'table' }, h('p', { class: 'empty' }, empty))
  const kind = column => [column.number && 'number', column.kind].filter(Boolean).join(' ') || undefined
  const cell = (column, item) => {
    const content = [column.cell(item)].flat().filter(part => part !== undefined && part !== null && part !== '')
    return column.head ? h('th', { scope: 'row', role: 'rowheader', class: kind(column) }, content)
      : h('td', { role: 'cell', class: kind(column), 'data-label': column.title }, content)
  }
  // The roles stay where a narrow screen shows rows as cards.
  return h('div', { class: 'table' }, h('table', { role: 'table' },
    h('caption', { class: 'hidden' }, caption),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, columns.map(column => h('th', { scope: 'col', role: 'columnheader', class: kind(column) }, column.title)))),
    h('tbody', { role: 'rowgroup' }, rows.map(item => h('tr', { role: 'row', ...row(item) }, columns.map(column => cell(column, item)))))))
}

// A table of many rows, searched and in pages, whose page and search outlive a refresh.
const PAGE = 50
const kept = new Map()
export const pages = (id, caption, columns, rows, options, refresh) => {
  const state = kept.get(id) ?? { text: '', from: 0 }
  kept.set(id, state)
  const text = state.text.toLowerCase()
  const found = text ? rows.filter(row => JSON.stringify(row).toLowerCase().includes(text)) : rows
  if (state.from >= found.length) state.from = Math.max(0, Math.floor((found.length - 1) / PAGE) * PAGE)
  const parts = [table(caption, columns, found.slice(state.from, state.from + PAGE), text ? { ...options, empty: 'No row has this text.' } : options)]
  if (rows.length > 10) {
    const search = event => { state.text = event.target.value; state.from = 0; refresh() }
    parts.unshift(h('form', { class: 'filters', submit: event => event.preventDefault() },
      field(`${id}-search`, `Search ${number(rows.length)} rows`, { type: 'search', class: 'wide', value: state.text, input: search })))
  }
  if (found.length > PAGE) parts.push(pager(state.from, PAGE, found.length, from => { state.from = from; refresh() }))
  return parts
}

export const field = (id, label, attributes) => h('div', {}, h('label', { for: id }, label), h('input', { id, autocomplete: 'off', spellcheck: 'false', ...attributes }))

export const choice = (id, label, options, chosen, change) => h('div', {}, h('label', { for: id }, label),
  h('select', { id, change: event => change(event.target.value) }, options.map(([value, text]) => h('option', { value, selected: value === chosen }, text))))

export const pager = (from, size, count, go) => h('div', { class: 'pager' },
  h('button', { type: 'button', disabled: from === 0, click: () => go(Math.max(0, from - size)) }, 'Previous'),
  h('span', { role: 'status' }, count ? `${number(from + 1)} to ${number(Math.min(from + size, count))} of ${number(count)}` : 'None'),
  h('button', { type: 'button', disabled: from + size >= count, click: () => go(from + size) }, 'Next'))

export const section = (title, ...children) => h('section', {}, h('h2', {}, title), children)
