<?php
// A client written by hand, as many apps have one. For the mirror only the base URL and the secret changed: the secret is
// the key that `wxtokend mirror-key` made. The mirror's `margin` for it is 0.

const WECHAT_BASE = 'http://127.0.0.1:9481';   // was https://api.weixin.qq.com

function mirror_access_token(string $appid, string $secret, string $cache, string $base = WECHAT_BASE): string
{
    $held = is_file($cache) ? json_decode(file_get_contents($cache), true) : null;
    if ($held && $held['expire_time'] > time()) {
        return $held['access_token'];
    }
    $query = http_build_query(['grant_type' => 'client_credential', 'appid' => $appid, 'secret' => $secret]);
    $answer = json_decode((string) @file_get_contents("$base/cgi-bin/token?$query"), true);
    if (empty($answer['access_token'])) {
        throw new RuntimeException('no access_token: errcode ' . ($answer['errcode'] ?? 'none'));
    }
    $held = ['access_token' => $answer['access_token'], 'expire_time' => time() + $answer['expires_in']];
    file_put_contents($cache, json_encode($held), LOCK_EX);
    return $held['access_token'];
}
