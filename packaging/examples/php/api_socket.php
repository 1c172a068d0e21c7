<?php
/**
 * wxtokend's API over curl: the token, and what to do when the platform says that it is dead.
 */
class Wxtokend
{
    private $account;
    private $socket;

    public function __construct($account, $socket = '/run/wxtokend/api.sock')
    {
        $this->account = $account;
        $this->socket = $socket;
    }

    public function accessToken()
    {
        return $this->call('/token')->access_token;
    }

    /** The platform answered 40001, 40014 or 42001 to $token: the one to go on with. */
    public function report($token, $errcode)
    {
        return $this->call('/refresh', array('bad_token' => $token, 'errcode' => $errcode))->access_token;
    }

    private function call($path, $body = null)
    {
        $curl = curl_init("http://localhost/v1/accounts/{$this->account}$path");
        curl_setopt($curl, CURLOPT_UNIX_SOCKET_PATH, $this->socket);
        curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
        curl_setopt($curl, CURLOPT_TIMEOUT, 15);
        if ($body !== null) {
            curl_setopt($curl, CURLOPT_POSTFIELDS, json_encode($body));
            curl_setopt($curl, CURLOPT_HTTPHEADER, array('Content-Type: application/json'));
        }
        $answer = json_decode((string) curl_exec($curl));
        $status = curl_getinfo($curl, CURLINFO_HTTP_CODE);
        if ($status !== 200) {
            $message = isset($answer->message) ? $answer->message : curl_error($curl);
            throw new RuntimeException("wxtokend: $message", $status);
        }
        return $answer;
    }
}
