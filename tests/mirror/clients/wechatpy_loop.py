"""wechatpy: uses its token and ticket again and again. Its base URLs are constants: a subclass changes them."""
import sys
import time

from wechatpy import WeChatClient

base, appid, key = sys.argv[1:]


class Mirrored(WeChatClient):
    API_BASE_URL = base + '/cgi-bin/'

    def fetch_access_token(self):
        params = {'grant_type': 'client_credential', 'appid': self.appid, 'secret': self.secret}
        return self._fetch_access_token(url=base + '/cgi-bin/token', params=params)


client = Mirrored(appid, key)
while True:
    try:
        print(client.access_token, client.jsapi.get_jsapi_ticket(), flush=True)
    except Exception as error:
        print('!', repr(error).replace('\n', ' ')[:300], flush=True)
    time.sleep(0.05)
