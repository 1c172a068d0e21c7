// node_easywechat.js PORT BASE APPID SECRET: the SDK with a cache in Redis, as an app gives it one.
'use strict';
const net = require('net');
const { OfficialAccount } = require('node-easywechat');
const [port, base, appid, secret] = process.argv.slice(2);

// One command and its answer, in Redis's own protocol.
const ask = (...words) => new Promise((resolve, reject) => {
  const socket = net.connect(Number(port), '127.0.0.1');
  let answer = '';
  socket.on('error', reject);
  socket.on('end', () => {
    const lines = answer.split('\r\n');
    resolve(lines[0] === '$-1' ? null : lines[lines[0][0] === '$' ? 1 : 0]);
  });
  socket.on('data', (data) => { answer += data; });
  const all = [words, ['QUIT']].map((command) => `*${command.length}\r\n`
    + command.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join(''));
  socket.write(all.join(''));
});
const cache = {
  get: (key) => ask('GET', key),
  set: (key, value, seconds) => ask('SET', key, value, 'EX', String(seconds)),
  has: async (key) => (await ask('GET', key)) !== null,
  delete: (key) => ask('DEL', key),
};

const app = new OfficialAccount({ app_id: appid, secret, http: { baseURL: `${base}/` } });
app.setCache(cache);
app.getAccessToken().getToken()
  .then((token) => process.stdout.write(token))
  .catch((error) => process.stdout.write(`! ${error.message}`));
