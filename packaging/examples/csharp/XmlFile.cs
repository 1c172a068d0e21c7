using System;
using System.IO;
using System.Text;
using System.Xml;

/// Apps that keep the token and its end, in local time, in an XML file; they fetch by themselves when it has passed.
///
/// To change: the path, which is that of wxtokend's file now (templates access-expires.xml.j2, access-youxrq.xml.j2).
/// Daemon and app must agree on the time zone: name it in the template where they do not.
static class XmlFile
{
    public static string AccessExpires(string path)
    {
        return Read(path, "AccessToken", "AccessExpires");
    }

    public static string AccessYouXRQ(string path)
    {
        return Read(path, "Access_Token", "Access_YouXRQ");
    }

    static string Read(string path, string token, string expires)
    {
        XmlDocument xml = new XmlDocument();
        using (StreamReader reader = new StreamReader(path, Encoding.UTF8))
            xml.Load(reader);
        XmlNode root = xml.SelectSingleNode("xml");
        DateTime end = Convert.ToDateTime(root.SelectSingleNode(expires).InnerText);
        if (DateTime.Now > end)
            throw new InvalidDataException(path + ": expired at " + end);
        return root.SelectSingleNode(token).InnerText;
    }
}
