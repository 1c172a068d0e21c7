using System;
using System.IO;

/// An app without a JSON parser: it looks for the key and cuts.
///
/// To change: the path, which is that of wxtokend's file now (format = "json": one flat line without spaces).
static class StringSearch
{
    public static string AccessToken(string path)
    {
        string text = File.ReadAllText(path);
        string token = Value(text, "\"access_token\"");
        if (token == null)
            throw new InvalidDataException(path + ": no access_token in it");
        return token;
    }

    static string Value(string text, string key)
    {
        int start = text.IndexOf(key);
        if (start < 0)
            return null;
        text = text.Substring(start + key.Length + 1);
        int end = text.IndexOfAny(new[] { ',', '}' });
        return end < 0 ? null : text.Substring(0, end).Trim('"', ' ', '\'');
    }
}
