using System;
using System.IO;
using System.Net.Http;
using System.Net.Sockets;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;

/// wxtokend's API over HttpClient, on .NET 5 and later. One instance for the whole app, as of every HttpClient.
class HttpClientApi
{
    readonly HttpClient http;

    public HttpClientApi(string path)
    {
        var handler = new SocketsHttpHandler
        {
            ConnectCallback = (context, cancel) => new ValueTask<Stream>(Connect(path, cancel))
        };
        http = new HttpClient(handler) { BaseAddress = new Uri("http://localhost/") };
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

    public async Task<string> AccessToken(string account)
    {
        using (var answer = await http.GetAsync("v1/accounts/" + account + "/token"))
            return await Token(answer);
    }

    /// The platform answered 40001, 40014 or 42001 to `token`: the one to go on with.
    public async Task<string> Report(string account, string token)
    {
        using (var body = new StringContent("{\"bad_token\":\"" + token + "\"}"))
        using (var answer = await http.PostAsync("v1/accounts/" + account + "/refresh", body))
            return await Token(answer);
    }

    static async Task<string> Token(HttpResponseMessage answer)
    {
        using (var json = JsonDocument.Parse(await answer.Content.ReadAsStringAsync()))
        {
            if (!answer.IsSuccessStatusCode)
                throw new InvalidDataException("wxtokend: " + json.RootElement.GetProperty("message").GetString());
            return json.RootElement.GetProperty("access_token").GetString();
        }
    }
}
