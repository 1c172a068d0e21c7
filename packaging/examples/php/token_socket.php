<?php
/**
 * The token from wxtokend's token socket (format = "raw"). Works under open_basedir, and the token is never on disk.
 */
function access_token($path)
{
    $stream = @stream_socket_client("unix://$path", $errno, $error, 2);
    if (!$stream) {
        throw new RuntimeException("$path: $error");
    }
    stream_set_timeout($stream, 2);
    $token = stream_get_contents($stream);
    $meta = stream_get_meta_data($stream);
    fclose($stream);
    if ($meta['timed_out']) {
        throw new RuntimeException("$path: timed out"); // looks like an empty answer otherwise
    }
    if ($token === '') {
        throw new RuntimeException("$path: no valid token now");
    }
    return $token;
}
