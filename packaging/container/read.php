<?php
// Prints the token of the account `shop` from the file and from the socket in a directory that both containers share.
$directory = $argv[1];
$file = json_decode((string) file_get_contents("$directory/shop.json"));
$socket = stream_get_contents(stream_socket_client("unix://$directory/shop.sock", $errno, $error, 2));
if (!$file || $socket === '') {
    fwrite(STDERR, "no valid token now\n");
    exit(1);
}
echo $file->access_token, "\n", $socket, "\n";
