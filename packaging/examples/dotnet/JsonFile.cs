using System.IO;
using System.Text.Json;

/// The token from wxtokend's file (format = "json", the default), on .NET Core 3 and later.
static class JsonFile
{
    public static string AccessToken(string path)
    {
        using (var json = JsonDocument.Parse(File.ReadAllText(path)))
            return json.RootElement.GetProperty("access_token").GetString();
    }
}
