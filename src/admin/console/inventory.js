// What the gateway works with: identities, partners and upstreams.

import { get } from './api.js'
import { h, list, pages, pill, render, section, table } from './dom.js'
import { ago, daysLeft, moment, number, plural, span } from './format.js'

const isIn = (place, name) => place.dataset.view === name
const left = days => days === undefined || days === null ? pill('note', 'Unknown') : pill(...daysLeft(days))
const failure = text => text && h('span', { class: 'bad-text' }, text)

// Where several kinds of things show certificates they stand in one table, those that end first at the top.
const certificates = status => [
  ...status.listener_certificates.map(one => ({ of: `Listener ${one.listener}`, subject: one.subject, names: one.names, days: one.days_left, until: one.not_after })),
  ...status.credentials.flatMap(credential => credential.certificates.map(one => ({ of: `Credential ${credential.name}`, subject: one.subject ?? one.thumbprint, names: [], days: one.days_left, until: one.not_after }))),
  ...status.upstreams.filter(upstream => upstream.client_certificate).map(({ name, client_certificate: one }) => ({ of: `Towards upstream ${name}`, subject: one.subject, names: [], days: one.days_left })),
].sort((one, other) => (one.days ?? Infinity) - (other.days ?? Infinity))

const keyState = keys => keys.serves ? keys.error ? ['warn', 'In use, not renewed'] : ['good', 'In use'] : keys.error ? ['bad', 'Missing'] : ['note', 'Not asked for yet']

const tokenState = token => token.expires_at ? token.last_error && token.retry_in ? ['warn', 'In use, not renewed'] : ['good', 'In use'] : token.last_error ? ['bad', 'Missing'] : ['note', 'Not asked for yet']
const tokens = credential => credential.tokens.map(token => h('div', {}, pill(...tokenState(token)), ` ${token.scope}`, token.expires_in > 0 && h('span', { class: 'quiet' }, `, for ${span(token.expires_in)} more`),
  token.last_error && token.retry_in && [' ', failure(token.last_error.cure ?? token.last_error.meaning ?? token.last_error.message)]))
const credentialState = credential => {
  if (credential.tokens.length) return credential.ready ? ['good', 'Ready'] : ['bad', 'Not ready']
  return credential.tokens_for_callers ? ['good', 'Ready'] : ['note', 'No route asks for it']
}

export const identity = {
  async refresh(place, _, __, again) {
    const status = await get('api/status', { parts: 'signing_keys,credentials,listener_certificates,vault_secrets,upstreams' })
    if (!isIn(place, 'identity')) return
    render(place,
      section('Signing keys', pages('keys', 'Signing keys', [
        { title: 'Issuer', head: true, kind: 'code', cell: keys => [keys.url, keys.application && h('div', { class: 'quiet' }, `application ${keys.application}`)] },
        { title: 'State', cell: keys => pill(...keyState(keys)) },
        { title: 'Keys', number: true, cell: keys => number(keys.keys) },
        { title: 'Age', number: true, cell: keys => keys.age_seconds === undefined ? '' : span(keys.age_seconds) },
        { title: 'Fetches', number: true, cell: keys => keys.fetches === undefined ? '' : [number(keys.fetches), keys.failures > 0 && h('div', { class: 'warn-text' }, `${number(keys.failures)} failed`)] },
        { title: 'Unknown key ids', number: true, cell: keys => number(keys.unknown_key_ids) },
        { title: 'Last error', cell: keys => failure(keys.error) },
      ], status.signing_keys, { empty: 'No token is verified.' }, again)),
      section('Credentials', pages('credentials', 'Credentials', [
        { title: 'Credential', head: true, cell: credential => credential.name },
        { title: 'State', cell: credential => pill(...credentialState(credential)) },
        { title: 'Application', kind: 'code', cell: credential => credential.client_id },
        { title: 'Tenant', cell: credential => credential.tenant },
        { title: 'Tokens', cell: credential => [tokens(credential), credential.tokens_for_callers > 0 && h('div', { class: 'quiet' }, `${plural(credential.tokens_for_callers, 'token')} for callers`)] },
        { title: 'Vault certificates', cell: credential => list((credential.vault_certificates ?? []).map(one => [`${one.name}: ${one.used_version ?? 'no version yet'}`, one.note && h('div', { class: 'warn-text' }, one.note)])) },
      ], status.credentials, { empty: 'The gateway has no identity of its own.' }, again)),
      section('Certificates', pages('certificates', 'Certificates', [
        { title: 'Shown by', head: true, cell: one => one.of },
        { title: 'State', cell: one => left(one.days) },
        { title: 'Ends', kind: 'time', cell: one => one.until && moment(one.until) },
        { title: 'Subject', cell: one => one.subject },
        { title: 'Names', cell: one => one.names.join(', ') },
      ], certificates(status), { empty: 'No certificate is shown to anybody.' }, again)),
      status.vault_secrets.length > 0 && section('Secrets of vaults', table('Secrets of vaults', [
        { title: 'Named value', head: true, cell: secret => secret.name },
        { title: 'State', cell: secret => pill(...secret.ready ? secret.last_error ? ['warn', 'In use, not read again'] : ['good', 'In use'] : ['bad', 'Missing']) },
        { title: 'Vault', kind: 'code', cell: secret => `${secret.vault} ${secret.secret}` },
        { title: 'Version', kind: 'code', cell: secret => secret.version },
        { title: 'Ends', kind: 'time', cell: secret => secret.expires_at && moment(secret.expires_at) },
        { title: 'Last error', cell: secret => [failure(secret.last_error), secret.cure && h('div', {}, secret.cure)] },
      ], status.vault_secrets)))
  },
}

const STANDINGS = { active: ['good', 'Active'], expiring: ['warn', 'Expires soon'], expired: ['bad', 'Expired'], disabled: ['note', 'Switched off'] }
const standing = state => pill(...STANDINGS[state] ?? ['note', state])
const until = one => one.expires && h('div', { class: 'quiet' }, `until ${one.expires}, ${plural(one.days_left, 'day')} left`)

const used = limit => {
  if (!limit) return undefined
  const calls = limit.calls - limit.remaining
  return [h('meter', { min: '0', max: String(limit.calls), high: String(limit.calls * 0.9), value: String(calls), 'aria-label': 'used' }),
    h('div', {}, `${number(calls)} of ${number(limit.calls)}`, h('span', { class: 'quiet' }, ` in ${span(limit.renewal_period_seconds)}`))]
}
const some = (items, none) => items ? items.length > 6 ? `${items.slice(0, 6).join(', ')} and ${items.length - 6} more` : items.join(', ') : h('span', { class: 'quiet' }, none)

export const partners = {
  async refresh(place, _, __, again) {
    const status = await get('api/status', { parts: 'partners,address_sets' })
    if (!isIn(place, 'partners')) return
    render(place,
      section('Partners', pages('partners', 'Partners', [
        { title: 'Partner', head: true, cell: partner => [partner.name, partner.owner && h('div', { class: 'quiet' }, partner.owner)] },
        { title: 'State', cell: partner => [standing(partner.state), until(partner)] },
        { title: 'Last seen', kind: 'time', cell: partner => partner.last_seen ? ago(partner.last_seen) : h('span', { class: 'quiet' }, 'never') },
        { title: 'Allowed', number: true, cell: partner => number(partner.allowed) },
        { title: 'Refused', number: true, cell: partner => partner.refused ? h('a', { href: `#decisions?decision=deny&partner=${encodeURIComponent(partner.name)}` }, number(partner.refused)) : '0' },
        { title: 'Rate', cell: partner => used(partner.rate_limit) },
        { title: 'Quota', cell: partner => used(partner.quota) },
        { title: 'Addresses', kind: 'code', cell: partner => some(partner.addresses, 'any') },
        { title: 'Applications and keys', cell: partner => [h('div', { class: 'code' }, partner.applications.join(', ')),
          (partner.api_keys ?? []).map(key => h('div', {}, `${key.name} `, standing(key.state), until(key)))] },
        { title: 'Routes', cell: partner => some(partner.routes, 'all that check partners') },
      ], status.partners, { empty: 'The config has no partners.' }, again)),
      status.address_sets.length > 0 && section('Address sets', pages('sets', 'Address sets', [
        { title: 'Set', head: true, cell: set => set.name },
        { title: 'Ranges', number: true, cell: set => number(set.ranges) },
        { title: 'Change number', number: true, cell: set => set.change_number },
        { title: 'Entries that end', cell: set => list([
          ...(set.expired ?? []).map(entry => [pill('bad', 'Expired'), ` ${entry.address} on ${entry.expires}`, entry.owner && `, ${entry.owner}`]),
          ...(set.expiring ?? []).map(entry => [`${entry.address} on ${entry.expires}`, entry.owner && `, ${entry.owner}`])].map(parts => parts.filter(Boolean))) },
      ], status.address_sets, {}, again)))
  },
}

const SERVERS = { up: ['good', 'Up'], down: ['bad', 'Down'], ejected: ['warn', 'Ejected'] }

export const upstreams = {
  async refresh(place, _, __, again) {
    const status = await get('api/status', { parts: 'upstreams' })
    if (!isIn(place, 'upstreams')) return
    const rows = status.upstreams.flatMap(upstream => upstream.servers.map((server, index) => ({ ...server, upstream: upstream.name, retries: index === 0 ? upstream.retries : undefined })))
    render(place, section('Upstreams', pages('upstreams', 'Servers of upstreams', [
      { title: 'Upstream', head: true, cell: server => server.upstream },
      { title: 'Server', kind: 'code server', cell: server => server.server },
      { title: 'State', cell: server => pill(...SERVERS[server.state] ?? ['note', server.state]) },
      { title: 'Since', kind: 'time', cell: server => server.since ? ago(server.since) : h('span', { class: 'quiet' }, 'the start') },
      { title: 'Why', cell: server => failure(server.cause) },
      { title: 'In flight', number: true, cell: server => number(server.requests_under_way) },
      { title: 'Connections', number: true, cell: server => number(server.connections) },
      { title: 'Not connected', number: true, cell: server => number(server.connect_failures) },
      { title: 'Ejections', number: true, cell: server => number(server.ejections) },
      { title: 'Retries', number: true, cell: server => number(server.retries) },
    ], rows, { empty: 'The config has no upstreams.' }, again)))
  },
}
