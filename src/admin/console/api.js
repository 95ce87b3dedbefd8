// Questions to the gateway. Behind a policy for tokens they carry one, which stays in this page's memory alone.

let token
let asking

export class Problem extends Error {
  constructor(status, message, retry) { super(message); Object.assign(this, { status, retry }) }
}

// Asks for a token, once for all who wait; `ask` shows the dialog.
let ask = async () => undefined
export const asksWith = dialog => { ask = dialog }

const send = async (path, options) => {
  for (;;) {
    const used = token
    const headers = { ...options.headers, ...(used ? { Authorization: `Bearer ${used}` } : {}) }
    const answer = await fetch(path, { ...options, headers, credentials: 'omit', cache: 'no-store', redirect: 'error' })
    const challenged = answer.status === 401 || answer.status === 403 && (answer.headers.get('www-authenticate') ?? '').startsWith('Bearer')
    if (!challenged) return answer
    const why = reason(await answer.text())
    // Another question may have got a new one in the meantime.
    if (token !== used) continue
    asking ??= ask(used ? why : '').finally(() => { asking = undefined })
    token = await asking
  }
}

// What a problem document says, or the text as it is.
const reason = text => {
  try {
    const { title, code } = JSON.parse(text)
    return `${title} (${code})`
  } catch {
    return text.trim().slice(0, 500)
  }
}

const read = async answer => {
  if (answer.ok) return answer
  throw new Problem(answer.status, reason(await answer.text()) || answer.statusText, Number(answer.headers.get('retry-after')))
}

export const query = parameters => new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null)).toString()
export const get = async (path, parameters = {}, signal) => {
  const search = query(parameters)
  return (await read(await send(search ? `${path}?${search}` : path, { signal }))).json()
}
export const post = async (path, body) =>
  (await read(await send(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }))).json()

// Follows a stream of server-sent events until its end; `event` gets each one's name, id and data.
export const follow = async (path, parameters, signal, event) => {
  const answer = await read(await send(`${path}?${query(parameters)}`, { signal }))
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const blocks = (rest + value).split('\n\n')
    rest = blocks.pop()
    event(blocks.map(block => {
      const one = { event: 'message', data: '' }
      for (const line of block.split('\n')) {
        const [, name, text] = /^(\w+): ?(.*)$/s.exec(line) ?? []
        if (name === 'data') one.data += text
        else if (name) one[name] = text
      }
      return one
    }).filter(one => one.data))
  }
}
