<?php
require $argv[1];
while (true) {
    try {
        echo mirror_access_token($argv[3], $argv[4], $argv[5], $argv[2]), "\n";
    } catch (RuntimeException $error) {
        echo '! ', $error->getMessage(), "\n";
    }
    usleep(50000);
}
