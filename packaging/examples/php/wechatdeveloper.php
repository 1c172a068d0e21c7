<?php
/**
 * How WeChatDeveloper reads its cache: files with serialize()d arrays, named after the appid, below cache_path.
 *
 * To change: 'cache_path' of its configuration, a directory of wxtokend now, with the outputs <appid>_access_token
 * (template wechatdeveloper.j2) and, for the JS-SDK, <appid>_ticket_jsapi (template wechatdeveloper-jsapi.j2).
 */
function cached($cache_path, $name)
{
    $content = (string) @file_get_contents("$cache_path/$name");
    $data = $content === '' ? false : unserialize($content, array('allowed_classes' => false));
    if (!isset($data['expired']) || $data['name'] !== $name) {
        throw new RuntimeException("$name: no cache");
    }
    if ($data['expired'] !== 0 && $data['expired'] < time()) {
        throw new RuntimeException("$name: expired; the library would fetch by itself");
    }
    return $data['value'];
}
