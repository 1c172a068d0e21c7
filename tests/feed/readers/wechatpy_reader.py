"""wechatpy_reader.py PORT BASE APPID SECRET: the SDK with its token in Redis. Its base URL is a constant: a subclass
changes it, for when it asks the platform by itself."""
import sys

import redis
from wechatpy import WeChatClient
from wechatpy.session.redisstorage import RedisStorage

port, base, appid, secret = sys.argv[1:]


class Client(WeChatClient):
    def fetch_access_token(self):
        params = {'grant_type': 'client_credential', 'appid': self.appid, 'secret': self.secret}
        return self._fetch_access_token(url=base + '/cgi-bin/token', params=params)


storage = RedisStorage(redis.Redis(port=int(port)), prefix='wechatpy')
try:
    print(Client(appid, secret, session=storage).access_token, end='')
except Exception as error:
    print('!', repr(error), end='')
