// A client written by hand, as many apps have one. For the mirror only the base URL and the secret changed: the secret is
// the key that `wxtokend mirror-key` made. The mirror's `margin` for it is 0.
using System;
using System.IO;
using System.Net;
using System.Text.RegularExpressions;

public static class MirrorToken
{
    public static string BaseUrl = "http://127.0.0.1:9481";   // was https://api.weixin.qq.com

    static readonly object Gate = new object();
    static string token;
    static DateTime end = DateTime.MinValue;

    public static string Get(string appid, string secret)
    {
        lock (Gate)
        {
            if (DateTime.UtcNow < end) return token;
            string url = BaseUrl + "/cgi-bin/token?grant_type=client_credential&appid=" + appid + "&secret=" + secret;
            var request = (HttpWebRequest)WebRequest.Create(url);
            request.Timeout = 5000;
            string answer;
            using (var response = request.GetResponse())
            using (var reader = new StreamReader(response.GetResponseStream()))
                answer = reader.ReadToEnd();
            Match found = Regex.Match(answer, "\"access_token\":\"([^\"]+)\",\"expires_in\":(\\d+)");
            if (!found.Success) throw new InvalidOperationException("no access_token: " + answer);
            token = found.Groups[1].Value;
            end = DateTime.UtcNow.AddSeconds(int.Parse(found.Groups[2].Value));
            return token;
        }
    }
}
