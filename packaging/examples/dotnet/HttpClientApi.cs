using System;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;

/// wxtokend's API over HttpClient, on .NET 5 and later. One instance for the whole app, as of every HttpClient.
///
/// Every method throws an HttpRequestException when there is no token to go on with. Its StatusCode is NotFound for an
/// account that is not there or not for this user, ServiceUnavailable when there is no valid token now, null when nobody
/// answers.
class HttpClientApi
{
    readonly HttpClient http;

    public HttpClientApi(string path)
    {
        var handler = new SocketsHttpHandler
        {
            ConnectCallback = (context, cancel) => new ValueTask<Stream>(Connect(path, cancel))
        };
        http = new HttpClient(handler) { BaseAddress = new Uri("http://localhost/"), Timeout = TimeSpan.FromSeconds(15) };
    }

    static async Task<Stream> Connect(string path, CancellationToken cancel)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancel);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    public Task<string> AccessToken(string account)
    {
        return Token(() => http.GetAsync("v1/accounts/" + account + "/token"));
    }

    /// The platform answered 40001, 40014 or 42001 to `token`. Returns the token to go on with: repeat the platform's call
    /// with it once. It is the same token when the platform says, or has just said, that it is alive.
    public async Task<string> Report(string account, string token)
    {
        var body = "{\"bad_token\":\"" + token + "\"}";
        try
        {
            return await Token(() => http.PostAsync("v1/accounts/" + account + "/refresh", new StringContent(body)));
        }
        catch (HttpRequestException error)
        {
            // Somebody reported this token moments ago, and the platform has given no answer yet.
            if (error.StatusCode != HttpStatusCode.TooManyRequests)
                throw;
        }
        return await AccessToken(account);
    }

    static async Task<string> Token(Func<Task<HttpResponseMessage>> send)
    {
        using (var answer = await Send(send))
        {
            var text = await answer.Content.ReadAsStringAsync();
            if (answer.StatusCode != HttpStatusCode.OK)
                throw new HttpRequestException("wxtokend: " + Message(text), null, answer.StatusCode);
            using (var json = JsonDocument.Parse(text))
                return json.RootElement.GetProperty("access_token").GetString();
        }
    }

    static async Task<HttpResponseMessage> Send(Func<Task<HttpResponseMessage>> send)
    {
        // Over a restart, a connection can be refused or cut for a moment.
        for (int attempt = 1; ; attempt++)
        {
            try
            {
                return await send();
            }
            catch (HttpRequestException)
            {
                if (attempt == 3)
                    throw;
            }
            await Task.Delay(1000);
        }
    }

    static string Message(string text)
    {
        try
        {
            using (var json = JsonDocument.Parse(text))
                return json.RootElement.GetProperty("message").GetString();
        }
        catch (Exception)
        {
            return "an answer that is not the daemon's";
        }
    }
}
