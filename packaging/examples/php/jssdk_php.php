<?php
/**
 * The JS-SDK sample for PHP, as it is now: access_token.php and jsapi_ticket.php in the working directory, whose first 15
 * bytes keep a web server from showing them; and api_ticket.php, as apps that use cards add it.
 *
 * To change: nothing but where those files are: wxtokend's (format = "php"; api_ticket.php by the template of that name),
 * by a symbolic link, or by the paths below.
 */
class JSSDK
{
    public function getAccessToken()
    {
        return $this->read('access_token.php')->access_token;
    }

    public function getJsApiTicket()
    {
        return $this->read('jsapi_ticket.php')->jsapi_ticket;
    }

    public function getApiTicket()
    {
        return $this->read('api_ticket.php')->api_ticket;
    }

    private function read($file)
    {
        $data = json_decode(trim(substr((string) @file_get_contents($file), 15)));
        if (!$data || $data->expire_time < time()) {
            throw new RuntimeException("$file: no valid value; where this stands, the sample fetched by itself");
        }
        return $data;
    }
}
