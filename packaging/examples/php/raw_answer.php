<?php
/**
 * An app that keeps the platform's answer as it came and goes by the age of the file.
 *
 * To change: the path, which is that of wxtokend's file now (format = "api": expires_in counts from the file's mtime).
 */
function access_token($file)
{
    clearstatcache(); // in a script that runs for long, or the age is that of the first file ever seen
    $answer = json_decode((string) @file_get_contents($file), true);
    if (!$answer || filemtime($file) + $answer['expires_in'] < time()) {
        throw new RuntimeException("$file: no valid token");
    }
    return $answer['access_token'];
}
