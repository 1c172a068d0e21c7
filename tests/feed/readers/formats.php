<?php
// formats.php SDK PORT BASE APPID SECRET: reads the key that an SDK looks for, as that SDK does, with phpredis. What the SDK
// takes for no token makes it ask the platform at BASE; then the platform's answer is printed.
list(, $sdk, $port, $base, $appid, $secret) = $argv;
$redis = new Redis();
$redis->connect('127.0.0.1', (int) $port);

// What PHP's caches make of a value.
$unserialized = function ($key) use ($redis) {
    $value = $redis->get($key);
    return $value === false ? null : unserialize($value);
};
$credentials = json_encode(['grant_type' => 'client_credential', 'appid' => $appid, 'secret' => $secret]);
$readers = [
    // A key without a life, or with less than two seconds, has expired.
    'wxjava' => function () use ($redis, $appid) {
        $key = "wx:access_token:$appid";
        return $redis->ttl($key) >= 2 ? $redis->get($key) : null;
    },
    'silenceper' => function () use ($redis, $appid) {
        return $redis->get("gowechat_officialaccount__access_token_$appid");
    },
    'silenceper-stable' => function () use ($redis, $appid) {
        return $redis->get("gowechat_officialaccount__stable_access_token_$appid");
    },
    // `expires_in` has to be a number.
    'powerwechat' => function () use ($redis, $appid, $secret) {
        $kept = json_decode((string) $redis->get('powerwechat.access_token.' . md5($appid . $secret)), true);
        return is_array($kept) && is_int($kept['expires_in']) ? $kept['access_token'] : null;
    },
    'easywechat-5' => function () use ($unserialized, $credentials) {
        $kept = $unserialized('easywechat.kernel.access_token.' . md5($credentials));
        return is_array($kept) && !empty($kept['access_token']) ? $kept['access_token'] : null;
    },
    // Redis's prefix and the cache's; numbers stand as they are.
    'laravel' => function () use ($redis, $appid, $secret) {
        $value = $redis->get("shop_database_shop_cache_official_account.access_token.$appid.$secret.1");
        return $value === false ? null : (is_numeric($value) ? $value : unserialize($value));
    },
    'thinkphp' => function () use ($unserialized, $appid, $secret) {
        return $unserialized("tp_official_account.access_token.$appid.$secret.1");
    },
];
$token = $readers[$sdk]();
if (is_string($token) && $token !== '') {
    echo $token;
} else {
    $query = http_build_query(json_decode($credentials, true));
    echo '! ', file_get_contents("$base/cgi-bin/token?$query");
}
