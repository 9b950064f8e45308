// An OpenID provider, `oidc-provider`, on a free port of this machine, over plain HTTP. Its argument is a folder with `plan.json`:
//   issuer    its URL; TLS ends before this program
//   clients   the metadata of its clients
//   settings  what is set besides, as `oidc-provider` names it
//   roots     certificates (PEM) that the servers of the clients are trusted by
// and with `people.json`, from login name to claims, which is read again whenever somebody is looked up. Every password is right.
// Writes `port N` when it listens, and ends when its standard input does.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { request } from 'node:https';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [, , folder, packages] = process.argv;
const read = (name) => JSON.parse(readFileSync(join(folder, name), 'utf8'));
const plan = read('plan.json');
const required = createRequire(join(packages, 'package.json'));
const { default: Provider } = await import(pathToFileURL(required.resolve('oidc-provider')));

const jwk = (kid, alg, kind, options) => {
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
};

// Every host is on this machine.
const here = (host, options, done) => (options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4));

const ask = (url, { method, headers, body }) => new Promise((resolve, reject) => {
  const fields = Object.fromEntries(new Headers(headers));
  const sent = request(url, { method, headers: fields, lookup: here, ca: plan.roots, timeout: 5000 }, (answer) => {
    const parts = [];
    answer.on('data', (part) => parts.push(part));
    answer.on('error', reject);
    answer.on('end', () => {
      const empty = answer.statusCode === 204 || answer.statusCode === 304;
      resolve(new Response(empty ? null : Buffer.concat(parts), { status: answer.statusCode }));
    });
  });
  sent.on('timeout', () => sent.destroy(new Error('no answer')));
  sent.on('error', reject);
  sent.end(body?.toString());
});

const provider = new Provider(plan.issuer, {
  clients: plan.clients,
  clientDefaults: { id_token_signed_response_alg: 'RS256' },
  jwks: {
    keys: [
      jwk('rsa', 'RS256', 'rsa', { modulusLength: 2048 }),
      jwk('ec', 'ES256', 'ec', { namedCurve: 'P-256' }),
      jwk('ed', 'EdDSA', 'ed25519', {}),
    ],
  },
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
  claims: { openid: ['sub', 'sid', 'auth_time', 'iss', 'acr'], profile: ['name', 'groups'], email: ['email', 'email_verified'] },
  conformIdTokenClaims: false,
  cookies: { keys: ['a key for cookies of a test'] },
  features: {
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    devInteractions: { enabled: true },
  },
  pkce: { required: () => true },
  // Without asking the person for consent to the scope `offline_access`.
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  ttl: { Session: 3600, Grant: 3600, Interaction: 600, AccessToken: 600, IdToken: 600, RefreshToken: 3600 },
  // Nobody is asked whether the client may know who he is.
  async loadExistingGrant(ctx) {
    const { client, session, params } = ctx.oidc;
    const known = session.grantIdFor(client.clientId);
    const grant = (known && (await ctx.oidc.provider.Grant.find(known)))
      || new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope(params.scope);
    await grant.save();
    return grant;
  },
  findAccount(ctx, login) {
    const person = read('people.json')[login];
    return person && { accountId: login, claims: async () => ({ sub: login, ...person }) };
  },
  fetch: ask,
  ...plan.settings,
});
provider.proxy = true;
provider.on('server_error', (ctx, error) => console.error(error));
provider.on('backchannel.error', (ctx, error) => console.error('back-channel logout:', error));
provider.on('authorization.error', (ctx, error) => console.error('authorization:', error));
provider.on('grant.error', (ctx, error) => console.error('token:', error));

const answer = provider.callback();
const server = createServer((incoming, outgoing) => {
  incoming.headers['x-forwarded-proto'] = 'https';
  answer(incoming, outgoing);
});
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));
process.stdin.on('end', () => process.exit()).resume();
