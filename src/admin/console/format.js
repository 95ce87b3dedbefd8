// Numbers, times and states in words.

const whole = new Intl.NumberFormat('en')
export const number = value => value === undefined || value === null ? '' : whole.format(value)
export const rate = value => value >= 100 ? whole.format(Math.round(value)) : value >= 10 ? value.toFixed(1) : String(Math.round(value * 100) / 100)

// A time in seconds since 1970, or as a text, in the reader's own zone.
const date = time => new Date(typeof time === 'number' ? time * 1000 : time)
const two = value => String(value).padStart(2, '0')
export const clock = time => { const at = date(time); return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}` }
export const day = time => { const at = date(time); return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}` }
export const moment = time => `${day(time)} ${clock(time)}`
export const precise = time => { const at = date(time); return `${clock(time)}.${String(at.getMilliseconds()).padStart(3, '0')}` }

// Seconds as the two largest units that matter.
export const span = seconds => {
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]]
  const first = units.findIndex(([, length]) => seconds >= length)
  if (first < 0) return '0 s'
  const [name, length] = units[first], more = units[first + 1]
  const rest = more ? Math.floor(seconds % length / more[1]) : 0
  return `${Math.floor(seconds / length)} ${name}${rest ? ` ${rest} ${more[0]}` : ''}`
}
export const ago = (time, now = Date.now() / 1000) => { const past = Math.max(0, now - date(time).getTime() / 1000); return past < 2 ? 'now' : `${span(past)} ago` }

// Microseconds.
export const duration = micros => micros === undefined ? '' : micros < 1000 ? `${micros} µs` : micros < 1e6 ? `${rate(micros / 1000)} ms` : `${rate(micros / 1e6)} s`
export const bytes = count => count === undefined ? '' : count < 1024 ? `${count} B` : count < 1048576 ? `${rate(count / 1024)} KiB` : `${rate(count / 1048576)} MiB`

export const share = (part, all) => all ? `${rate(part / all * 100)} %` : '0 %'
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`
export const words = name => name.replaceAll('_', ' ').replace(/^./, letter => letter.toUpperCase())

// Whole days until an end, as a state and its words; -1 is less than a day ago.
const days = count => count === 0 ? 'less than a day' : plural(count, 'day')
export const daysLeft = left => left < 0 ? ['bad', `expired ${days(-left - 1)} ago`] : [left < 30 ? 'warn' : 'good', `${days(left)} left`]

const STATES = { allow: ['good', 'Allowed'], deny: ['warn', 'Refused'], error: ['bad', 'Failed'] }
// The state of a record, with the word for it.
export const decision = record => record.event ? ['note', record.peer ? 'Connection' : 'Record'] : STATES[record.decision] ?? ['note', record.decision ?? 'Unknown']
