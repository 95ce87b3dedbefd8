// A certified OpenID provider that nobody here wrote, with what the tests need: tokens of every algorithm, assertions checked,
// keys that rotate on request.
//
//   node provider.mjs [SETTINGS.json]
//
// Listens on loopback and prints one line of JSON: `issuer`, `token_endpoint`. Settings, all of them optional:
//
//   port           default: any free one
//   token_path     path of the token endpoint; default: /token. Entra's is /TENANT/oauth2/v2.0/token
//   clients        client metadata (RFC 7591); one with `certificate` (PEM) shows private_key_jwt of that certificate's key
//   resource       what a token is for that names no `resource`; default: urn:entrada:orders
//   scopes         the scopes that any resource has, in one text
//   claims         claims added to every access token
//
// Access tokens are JWTs (RFC 9068). A resource that ends with `?alg=PS256` signs with that algorithm, and `?format=opaque` is one
// whose tokens are none. `POST /control/rotate` makes new keys ({"keep": true} leaves the old ones published), `GET /control/calls`
// counts the requests by path. The grant type urn:entrada:user gives a user's token without a sign-in: `account` names the user.
import { createPublicKey, createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { exportJWK, generateKeyPair } from 'jose';
import Provider, { errors } from 'oidc-provider';

const settings = process.argv[2] ? JSON.parse(readFileSync(process.argv[2], 'utf8')) : {};
const algorithms = ['RS256', 'PS256', 'RS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];
const scopes = settings.scopes ?? 'read write .default';

async function keySet() {
  return Promise.all(algorithms.map(async (alg) => {
    const { privateKey } = await generateKeyPair(alg, { extractable: true });
    const jwk = await exportJWK(privateKey);
    const kid = createHash('sha256').update(JSON.stringify([jwk.n, jwk.x])).digest('base64url').slice(0, 20);
    return { ...jwk, alg, kid, use: 'sig' };
  }));
}

function client({ certificate, ...metadata }) {
  const common = { grant_types: ['client_credentials', 'urn:entrada:user'], redirect_uris: [], response_types: [] };
  if (!certificate) return { ...common, ...metadata };
  const key = createPublicKey(certificate).export({ format: 'jwk' });
  return { ...common, token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [key] }, ...metadata };
}

// Only what names itself in the query; a resource is a name, and nothing is fetched from it.
function resourceServer(_context, indicator) {
  const query = new URL(indicator.replace(/^urn:/, 'https://urn.example/')).searchParams;
  const alg = query.get('alg') ?? 'RS256';
  if (!algorithms.includes(alg)) throw new errors.InvalidTarget();
  const format = query.get('format') ?? 'jwt';
  return { scope: scopes, audience: indicator.split('?')[0], accessTokenFormat: format, accessTokenTTL: 600, jwt: { sign: { alg } } };
}

function provider(issuer, keys) {
  const made = new Provider(issuer, {
    clients: (settings.clients ?? [{ client_id: 'daemon', client_secret: 'a secret of the tests' }]).map(client),
    jwks: { keys },
    scopes: scopes.split(' '),
    routes: { token: settings.token_path ?? '/token' },
    features: {
      clientCredentials: { enabled: true },
      dPoP: { enabled: true },
      introspection: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => settings.resource ?? 'urn:entrada:orders',
        getResourceServerInfo: resourceServer,
        useGrantedResource: () => true,
      },
    },
    enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'], dPoPSigningAlgValues: ['ES256', 'PS256'] },
    extraTokenClaims: () => settings.claims ?? {},
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  });
  made.registerGrantType('urn:entrada:user', async (context) => {
    const { account, resource, scope } = context.oidc.params;
    const indicator = resource ?? settings.resource ?? 'urn:entrada:orders';
    const server = new made.ResourceServer(indicator, resourceServer(context, indicator));
    const token = new made.AccessToken({ accountId: account, client: context.oidc.client, scope, gty: 'user', grantId: 'none' });
    token.resourceServer = server;
    context.body = { access_token: await token.save(), token_type: token.tokenType, expires_in: token.expiration, scope };
  }, ['account', 'resource', 'scope']);
  // What goes wrong inside is the test's to see.
  made.on('server_error', (_context, error) => console.error(error));
  return made.callback();
}

const calls = {};
let keys = await keySet();
let serve;
const server = createServer(async (request, response) => {
  const path = request.url.split('?')[0];
  const answer = (body) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  if (path === '/control/calls') return answer(calls);
  if (path === '/control/rotate') {
    let body = '';
    for await (const chunk of request) body += chunk;
    const fresh = await keySet();
    // The first key that fits signs.
    keys = JSON.parse(body || '{}').keep ? [...fresh, ...keys] : fresh;
    serve = provider(issuer, keys);
    return answer({ keys: keys.length });
  }
  calls[path] = (calls[path] ?? 0) + 1;
  return serve(request, response);
});

await new Promise((listening) => { server.listen(settings.port ?? 0, '127.0.0.1', listening); });
const issuer = `http://127.0.0.1:${server.address().port}`;
serve = provider(issuer, keys);
console.log(JSON.stringify({ issuer, token_endpoint: issuer + (settings.token_path ?? '/token') }));
