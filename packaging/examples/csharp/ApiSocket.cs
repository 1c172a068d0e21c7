using System;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;

/// wxtokend's API with a hand-written HTTP request: runs on Mono 6 and on .NET alike. .NET 5 and later can speak HTTP over
/// a Unix socket by itself: see HttpClientApi.cs.
static class ApiSocket
{
    public static string AccessToken(string path, string account)
    {
        return Call(path, "GET /v1/accounts/" + account + "/token", "");
    }

    /// The platform answered 40001, 40014 or 42001 to `token`: the one to go on with.
    public static string Report(string path, string account, string token)
    {
        return Call(path, "POST /v1/accounts/" + account + "/refresh", "{\"bad_token\":\"" + token + "\"}");
    }

    static string Call(string path, string request, string body)
    {
        using (Socket socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            socket.ReceiveTimeout = 15000;
            socket.Connect(new UnixDomainSocketEndPoint(path));
            socket.Send(Encoding.ASCII.GetBytes(request + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                + "Content-Type: application/json\r\nContent-Length: " + body.Length + "\r\n\r\n" + body));
            using (StreamReader reader = new StreamReader(new NetworkStream(socket), Encoding.UTF8))
            {
                string answer = reader.ReadToEnd();
                Match token = Regex.Match(answer, "\"access_token\":\"([^\"]+)\"");
                if (!answer.StartsWith("HTTP/1.1 200 ") || !token.Success)
                    throw new InvalidDataException("wxtokend: " + answer.Split('\r')[0]);
                return token.Groups[1].Value;
            }
        }
    }
}
