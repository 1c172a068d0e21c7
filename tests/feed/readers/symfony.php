<?php
// symfony.php PORT BASE APPID SECRET: reads as EasyWeChat 6 does, with Debian's symfony/cache over phpredis. Without a token
// it asks the platform at BASE; then the platform's answer is printed.
require '/usr/share/php/Symfony/Component/Cache/autoload.php';
list(, $port, $base, $appid, $secret) = $argv;
$redis = new Redis();
$redis->connect('127.0.0.1', (int) $port);
$cache = new Symfony\Component\Cache\Adapter\RedisAdapter($redis, 'app');
$token = $cache->getItem("official_account.access_token.$appid.$secret.0")->get();
if (is_string($token) && $token !== '') {
    echo $token;
} else {
    $query = http_build_query(['grant_type' => 'client_credential', 'appid' => $appid, 'secret' => $secret]);
    echo '! ', file_get_contents("$base/cgi-bin/token?$query");
}
