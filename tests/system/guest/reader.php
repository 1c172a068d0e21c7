<?php
// Reads a token as legacy apps do, from a socket and from a file, in a loop until a file appears. Then prints a count of
// everything that its user would have noticed, and the first thing of each kind. Arguments: socket, file, platform, stop.
[, $socket, $file, $platform, $stop] = $argv;
$count = ['reads' => 0, 'refused' => 0, 'empty' => 0, 'timed_out' => 0, 'no_file' => 0, 'expired' => 0, 'dead' => 0];
$slowest = 0.0;
$first = [];
$note = function (string $what, string $detail) use (&$count, &$first): void {
    $count[$what]++;
    $first[$what] ??= date('H:i:s ') . $detail;
};
$check = function (string $token) use ($platform, $note): void {
    $truth = json_decode(file_get_contents("$platform/probe?access_token=$token"), true);
    if ($truth['alive'] !== true) {
        $note('dead', json_encode($truth));
    }
};
while (!file_exists($stop)) {
    $count['reads']++;
    $began = microtime(true);
    $stream = @stream_socket_client("unix://$socket", $errno, $error, 10);
    if ($stream === false) {
        $note('refused', $error);
    } else {
        stream_set_timeout($stream, 10);
        $token = stream_get_contents($stream);
        if (stream_get_meta_data($stream)['timed_out']) {
            $note('timed_out', '');
        } elseif ($token === '') {
            $note('empty', '');
        } else {
            $check($token);
        }
        fclose($stream);
    }
    $slowest = max($slowest, microtime(true) - $began);

    $json = json_decode((string) @file_get_contents($file), true);
    if ($json === null) {
        $note('no_file', error_get_last()['message'] ?? '');
    } elseif ($json['expire_time'] < time()) {
        $note('expired', (string) $json['expire_time']);
    } else {
        $check($json['access_token']);
    }
    usleep(2000);
}
echo json_encode($count + ['slowest' => round($slowest, 3), 'first' => $first]), "\n";
