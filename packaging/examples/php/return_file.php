<?php
/**
 * An app whose cache is a PHP file that returns an array.
 *
 * To change: the path, which is that of wxtokend's file now (template return.php.j2); and with opcache, keep that one file
 * out of it (opcache.blacklist_filename), or it may serve the file of two seconds ago, or of ever with
 * opcache.validate_timestamps=0.
 */
function access_token($file)
{
    $cache = @include $file;
    if (!is_array($cache) || $cache['expires_at'] < time()) {
        throw new RuntimeException("$file: no valid token");
    }
    return $cache['access_token'];
}
