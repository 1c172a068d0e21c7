<?php
/**
 * The JS-SDK sample for PHP, as it was first: access_token.json and jsapi_ticket.json in the working directory.
 *
 * To change: nothing but where those two files are: wxtokend's (format = "json"; the account has tickets = ["jsapi"]),
 * by a symbolic link, or by the paths below.
 */
class JSSDK
{
    public function getAccessToken()
    {
        return $this->read('access_token.json')->access_token;
    }

    public function getJsApiTicket()
    {
        return $this->read('jsapi_ticket.json')->jsapi_ticket;
    }

    public function getSignature($url, $nonce, $timestamp)
    {
        $ticket = $this->getJsApiTicket();
        return sha1("jsapi_ticket=$ticket&noncestr=$nonce&timestamp=$timestamp&url=$url");
    }

    private function read($file)
    {
        $data = json_decode((string) @file_get_contents($file));
        if (!$data || $data->expire_time < time()) {
            throw new RuntimeException("$file: no valid value; where this stands, the sample fetched by itself");
        }
        return $data;
    }
}
