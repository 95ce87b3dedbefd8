// The config in force: which it is, what reloads changed, and what `check` says of it.

import { get } from './api.js'
import { h, list, pages, pill, render, section, table } from './dom.js'
import { moment, number } from './format.js'
import { extra } from './extra.js'

const where = finding => finding.file ? `${finding.file}:${finding.line}` : finding.place

export default {
  async refresh(place, _, status, again) {
    const [config, process, more] = await Promise.all([get('api/config'), get('api/status', { parts: 'listeners,audit_records_lost,open_files,connections_warning' }), extra()])
    if (place.dataset.view !== 'config') return
    const tile = (title, value, sub) => h('div', { class: 'tile' }, h('dt', {}, title), h('dd', { class: 'sub' }, h('code', {}, value)), sub && h('dd', { class: 'sub' }, sub))
    const last = config.reloads[0]
    render(place,
      h('dl', { class: 'tiles' }, tile('Digest', config.digest, 'the same on every gateway with the same settings'),
        tile('Generation', String(config.generation), 'configs before this one in this process'),
        tile('Last read', last ? moment(last.at) : '', last?.error ? pill('bad', 'Not taken') : pill('good', 'In force')),
        tile('Files', config.files[0] ?? '', config.files.length > 1 && `and ${config.files.length - 1} more: ${config.files.slice(1, 4).join(', ')}`),
        tile('Audit records lost', number(process.audit_records_lost), process.open_files && `${number(process.open_files)} open files allowed`)),
      section('Warnings', pages('warnings', 'Warnings of the config', [
        { title: 'Where', head: true, kind: 'code', cell: where },
        { title: 'Warning', kind: 'what', cell: finding => finding.message },
        { title: 'Cure', cell: finding => finding.cure },
        { title: 'Code', cell: finding => h('code', {}, finding.code) },
      ], config.warnings, { empty: 'entrada check has nothing to say.' }, again)),
      section('Reloads', table('Reloads, the newest first', [
        { title: 'When', head: true, kind: 'time', cell: reload => moment(reload.at) },
        { title: 'Outcome', cell: reload => reload.error ? pill('bad', 'Not taken') : pill('good', 'Taken') },
        { title: 'Generation', number: true, cell: reload => reload.generation === undefined ? '' : String(reload.generation) },
        { title: 'Digest', kind: 'code', cell: reload => reload.digest },
        { title: 'Changes', cell: reload => reload.error ? h('span', { class: 'bad-text' }, reload.error) : reload.changes.length ? list(reload.changes) : h('span', { class: 'quiet' }, reload.generation === 0 ? 'the start' : 'none in the config itself') },
      ], config.reloads)),
      section('Listeners', table('Listeners', [
        { title: 'Listener', head: true, cell: listener => listener.name },
        { title: 'Address', kind: 'code', cell: listener => listener.address },
        { title: 'Connections', number: true, cell: listener => `${number(listener.connections)} of ${number(listener.limit)}` },
        { title: 'Refused', number: true, cell: listener => number(listener.refused + listener.refused_peers) },
        { title: 'Closed for others', number: true, cell: listener => number(listener.closed_for_others) },
        { title: 'Not accepted', number: true, cell: listener => number(listener.accept_failures) },
      ], process.listeners)),
      config.silenced.length > 0 && section('Silenced warnings', pages('silenced', 'Silenced warnings', [
        { title: 'Where', head: true, kind: 'code', cell: where },
        { title: 'Warning', kind: 'what', cell: finding => finding.message },
        { title: 'Reason', cell: finding => [finding.reason, finding.until && h('div', { class: 'quiet' }, `until ${finding.until}`)] },
        { title: 'Code', cell: finding => h('code', {}, finding.code) },
      ], config.silenced, {}, again)),
      more)
  },
}
