<?php
/**
 * An app that keeps its token in a file and fetches a new one itself when the file says it has expired.
 *
 * To change: the path, which is that of wxtokend's file now (format = "json"), and APPSECRET, which becomes a dummy, so
 * that a fetch of its own fails loudly. The app's user can read that file, but not write it.
 */
define('WECHAT_HOST', getenv('WECHAT_HOST') ? getenv('WECHAT_HOST') : 'https://api.weixin.qq.com');
define('APPID', getenv('APPID') ? getenv('APPID') : 'wx0123456789abcdef');
define('APPSECRET', getenv('APPSECRET') ? getenv('APPSECRET') : 'kept-by-wxtokend');

function access_token($file)
{
    $data = json_decode((string) @file_get_contents($file));
    if ($data && $data->expire_time >= time()) {
        return $data->access_token;
    }
    // Not while wxtokend runs: the file never looks expired then.
    $token = fetch_access_token();
    @file_put_contents($file, json_encode(array('access_token' => $token, 'expire_time' => time() + 7000)));
    return $token;
}

function fetch_access_token()
{
    $query = array('grant_type' => 'client_credential', 'appid' => APPID, 'secret' => APPSECRET);
    $answer = json_decode((string) @file_get_contents(WECHAT_HOST . '/cgi-bin/token?' . http_build_query($query)));
    if (empty($answer->access_token)) {
        throw new RuntimeException('no token of our own: ' . (isset($answer->errcode) ? $answer->errcode : 'no answer'));
    }
    return $answer->access_token;
}
