// co-wechat-api: uses its token and ticket again and again. Its property `prefix` is the base URL.
'use strict';
const WechatAPI = require('co-wechat-api');
const [base, appid, key] = process.argv.slice(2);
const api = new WechatAPI(appid, key);
api.prefix = `${base}/cgi-bin/`;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
(async () => {
  for (;;) {
    try {
      const { accessToken } = await api.ensureAccessToken();
      const { ticket } = await api.ensureTicket('jsapi');
      console.log(`${accessToken} ${ticket}`);
    } catch (error) {
      console.log(`! ${error.message.slice(0, 300)}`);
    }
    await sleep(50);
  }
})();
