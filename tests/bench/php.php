<?php
// php.php EXAMPLES RUN REDIS SQLITE ROUNDS: how long a page takes to obtain a token, each way in turn, microseconds.
list(, $examples, $run, $redis, $sqlite, $rounds) = $argv;
require "$examples/token_socket.php";
require "$examples/api_socket.php";

$ways = array(
    'file, json' => function () use ($run) {
        return json_decode(file_get_contents("$run/shop.json"))->access_token;
    },
    'file, php' => function () use ($run) {
        return json_decode(trim(substr(file_get_contents("$run/shop.php"), 15)))->access_token;
    },
    'token socket' => function () use ($run) {
        return access_token("$run/shop.sock");
    },
    'API, curl' => function () use ($run) {
        return (new Wxtokend('shop', "$run/api.sock"))->accessToken();
    },
    'SQLite, opened anew' => function () use ($sqlite) {
        $db = new PDO("sqlite:$sqlite");
        return $db->query("select token from account where name = 'shop'")->fetchColumn();
    },
    'Redis GET, new connection' => function () use ($redis) {
        // In the protocol's own words: the extension would be a little faster, and is not everywhere.
        $stream = stream_socket_client("unix://$redis");
        fwrite($stream, "*2\r\n\$3\r\nGET\r\n\$4\r\nshop\r\n");
        $length = (int) substr(fgets($stream), 1);
        return stream_get_contents($stream, $length);
    },
);
$times = array();
$first = null;
for ($round = -10; $round < $rounds; $round++) {
    foreach ($ways as $way => $get) {
        if (!file_exists($redis) && strpos($way, 'Redis') === 0) {
            continue;
        }
        $begin = hrtime(true);
        $token = $get();
        $time = hrtime(true) - $begin;
        $first = $first === null ? $token : $first;
        if ($token !== $first) {
            fwrite(STDERR, "$way: another token\n");
            exit(1);
        }
        if ($round >= 0) {
            $times[$way][] = $time / 1000;
        }
    }
}
foreach ($times as $way => $all) {
    sort($all);
    printf("| %-25s | %8.1f | %8.1f |\n", $way, $all[count($all) / 2], $all[(int) (count($all) * 0.99)]);
}
