<?php
// loop.php EXAMPLE EXPRESSION: what EXPRESSION gives, again and again; `! why` when it throws.
ini_set('display_errors', 'stderr');
require $argv[1];
for (;;) {
    try {
        echo eval("return $argv[2];"), "\n";
    } catch (RuntimeException $error) {
        echo '! ', $error->getMessage(), "\n";
    }
    usleep(50000);
}
