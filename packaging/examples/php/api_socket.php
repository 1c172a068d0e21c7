<?php
/**
 * wxtokend's API over curl: reads the token, and reports one that the platform refused.
 *
 * Every method throws a WxtokendException when there is no token to go on with. Its code is the HTTP status: 404 for an
 * account that is not there or not for this user, 503 when there is no valid token now, 0 when nobody answers.
 */
class WxtokendException extends RuntimeException
{
}

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

    /**
     * The platform answered 40001, 40014 or 42001 to $token. Returns the token to go on with: repeat the platform's call
     * with it once. It is the same token when the platform says, or has just said, that it is alive.
     */
    public function report($token, $errcode)
    {
        try {
            return $this->call('/refresh', array('bad_token' => $token, 'errcode' => $errcode))->access_token;
        } catch (WxtokendException $error) {
            // 429: somebody reported this token moments ago, and the platform has given no answer yet.
            if ($error->getCode() !== 429) {
                throw $error;
            }
            return $this->accessToken();
        }
    }

    private function call($path, $body = null)
    {
        // Over a restart, a connection can be refused or cut for a moment.
        for ($attempt = 1; ; $attempt++) {
            $curl = curl_init("http://localhost/v1/accounts/{$this->account}$path");
            curl_setopt($curl, CURLOPT_UNIX_SOCKET_PATH, $this->socket);
            curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
            curl_setopt($curl, CURLOPT_TIMEOUT, 15);
            if ($body !== null) {
                curl_setopt($curl, CURLOPT_POSTFIELDS, json_encode($body));
                curl_setopt($curl, CURLOPT_HTTPHEADER, array('Content-Type: application/json'));
            }
            $text = curl_exec($curl);
            if ($text !== false) {
                break;
            }
            if ($attempt === 3 || curl_errno($curl) === CURLE_OPERATION_TIMEDOUT) {
                throw new WxtokendException('wxtokend does not answer: ' . curl_error($curl), 0);
            }
            sleep(1);
        }
        $status = curl_getinfo($curl, CURLINFO_HTTP_CODE);
        $answer = json_decode($text);
        if ($status !== 200 || !isset($answer->access_token)) {
            $message = isset($answer->message) ? $answer->message : "HTTP status $status";
            $hint = isset($answer->hint) ? "; $answer->hint" : '';
            throw new WxtokendException("wxtokend: $message$hint", $status);
        }
        return $answer;
    }
}
