// node-easywechat: uses its token and ticket again and again. `http.baseURL` moves all of its calls.
'use strict';
const { OfficialAccount } = require('node-easywechat');
const [base, appid, key, stable, cache] = process.argv.slice(2);
const app = new OfficialAccount({
  app_id: appid,
  secret: key,
  use_stable_access_token: stable === 'stable',
  http: { baseURL: `${base}/` },
  file_cache: { path: cache, fileMode: 0o600, ext: '.cache' },
});
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
(async () => {
  for (;;) {
    try {
      const token = await app.getAccessToken().getToken();
      const ticket = await app.getTicket().getTicket();
      console.log(`${token} ${ticket}`);
    } catch (error) {
      console.log(`! ${error.message.slice(0, 300)}`);
    }
    await sleep(50);
  }
})();
