using System;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;

/// There is no token to go on with. Status is that of HTTP: 404 for an account that is not there or not for this user, 503
/// when there is no valid token now, 0 when nobody answers.
class WxtokendException : Exception
{
    public readonly int Status;

    public WxtokendException(int status, string message) : base("wxtokend: " + message)
    {
        Status = status;
    }
}

/// wxtokend's API with a hand-written HTTP request: runs on Mono 6 and on .NET alike. .NET 5 and later can speak HTTP over
/// a Unix socket by itself: see HttpClientApi.cs.
static class ApiSocket
{
    public static string AccessToken(string path, string account)
    {
        return Call(path, "GET /v1/accounts/" + account + "/token", "");
    }

    /// The platform answered 40001, 40014 or 42001 to `token`. Returns the token to go on with: repeat the platform's call
    /// with it once. It is the same token when the platform says, or has just said, that it is alive.
    public static string Report(string path, string account, string token)
    {
        try
        {
            return Call(path, "POST /v1/accounts/" + account + "/refresh", "{\"bad_token\":\"" + token + "\"}");
        }
        catch (WxtokendException error)
        {
            // 429: somebody reported this token moments ago, and the platform has given no answer yet.
            if (error.Status != 429)
                throw;
            return AccessToken(path, account);
        }
    }

    static string Call(string path, string request, string body)
    {
        string answer = null;
        // Over a restart, a connection can be refused or cut for a moment.
        for (int attempt = 1; answer == null; attempt++)
        {
            try
            {
                answer = Send(path, request, body);
            }
            catch (Exception error)
            {
                if (!(error is SocketException || error is IOException))
                    throw;
                if (attempt == 3)
                    throw new WxtokendException(0, "nobody answers: " + error.Message);
                Thread.Sleep(1000);
            }
        }
        Match token = Regex.Match(answer, "\"access_token\":\"([^\"]+)\"");
        Match status = Regex.Match(answer, "^HTTP/1.1 ([0-9]{3}) ");
        if (status.Success && status.Groups[1].Value == "200" && token.Success)
            return token.Groups[1].Value;
        Match message = Regex.Match(answer, "\"message\":\"((?:[^\"\\\\]|\\\\.)*)\"");
        throw new WxtokendException(status.Success ? int.Parse(status.Groups[1].Value) : 0,
            message.Success ? message.Groups[1].Value : answer.Split('\r')[0]);
    }

    static string Send(string path, string request, string body)
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
                if (answer.Length == 0)
                    throw new IOException("the connection was closed without an answer");
                return answer;
            }
        }
    }
}
