const cell = (text, kind) => { const td = document.createElement('td'); td.textContent = text ?? ''; if (kind) td.className = kind; return td }
const days = left => left < 0 ? 'bad' : left < 30 ? 'warn' : 'good'
const row = (...cells) => { const tr = document.createElement('tr'); tr.append(...cells); return tr }
const table = (title, heads, rows) => {
  const section = document.createElement('section'), h2 = document.createElement('h2'), t = document.createElement('table')
  h2.textContent = title
  const head = document.createElement('tr')
  for (const text of heads) { const th = document.createElement('th'); th.textContent = text; head.append(th) }
  t.createTHead().append(head); t.createTBody().append(...rows); section.append(h2, t)
  return section
}
async function refresh() {
  try {
    const status = await (await fetch('api/status')).json()
    const summary = document.getElementById('summary')
    summary.textContent = `${status.ready ? 'Ready' : 'Not ready: ' + status.waiting_for.join(', ')} · version ${status.version} · config generation ${status.generation}`
      + (status.last_reload_error ? ` · the last reload failed: ${status.last_reload_error}` : '')
    summary.className = status.ready && !status.last_reload_error ? 'good' : 'bad'
    const parts = []
    for (const [title, list] of Object.entries(status)) {
      if (!Array.isArray(list) || !list.length || typeof list[0] !== 'object') continue
      const heads = [...new Set(list.flatMap(Object.keys))]
      parts.push(table(title.replaceAll('_', ' '), heads.map(head => head.replaceAll('_', ' ')),
        list.map(item => row(...heads.map(head => { const value = item[head]; return cell(typeof value === 'object' && value !== null ? JSON.stringify(value) : value, head === 'days_left' ? days(value) : undefined) })))))
    }
    document.getElementById('parts').replaceChildren(...parts)
  } catch { const summary = document.getElementById('summary'); summary.textContent = 'The gateway does not answer.'; summary.className = 'bad' }
}
const show = record => {
  const body = document.getElementById('decisions')
  body.prepend(row(cell(record.time?.slice(11, 23)), cell(record.decision, record.decision), cell(record.route), cell(record.caller ?? record.peer),
    cell(record.method ? `${record.method} ${record.host}${record.path}` : record.event), cell(record.code), cell(record.policy), cell(record.duration_us)))
  while (body.rows.length > 100) body.deleteRow(-1)
}
refresh(); setInterval(refresh, 5000)
fetch('api/decisions').then(answer => answer.json()).then(records => records.forEach(show))
new EventSource('api/decisions?follow').onmessage = event => show(JSON.parse(event.data))
