<?php
/**
 * An app that keeps its accounts in a table, one row each. Nothing in it changes but that its own refresh goes: the row is
 * kept by wxtokend-feed. PDO is the same for MySQL, PostgreSQL and SQLite.
 */
function access_token(PDO $database, $user_name)
{
    $select = $database->prepare('select access_token from CONFIG where UserName = ?');
    $select->execute(array($user_name));
    $token = $select->fetchColumn();
    if (!is_string($token) || trim($token) === '') {
        throw new RuntimeException("$user_name: no valid token now");
    }
    return trim($token); // CHAR columns are filled up with spaces
}
