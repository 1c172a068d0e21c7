using System;
using System.IO;
using System.Net.Sockets;
using System.Text;
using Mono.Unix;

/// The token from wxtokend's token socket (format = "raw"), on Mono with Mono.Posix. Mono 6 and .NET have
/// `new UnixDomainSocketEndPoint(path)` in System.Net.Sockets for it too, without Mono.Posix.
static class TokenSocket
{
    public static string AccessToken(string path)
    {
        using (Socket socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            socket.ReceiveTimeout = 2000;
            socket.Connect(new UnixEndPoint(path));
            using (StreamReader reader = new StreamReader(new NetworkStream(socket), Encoding.ASCII))
            {
                string token = reader.ReadToEnd();
                if (token == "")
                    throw new InvalidDataException(path + ": no valid token now");
                return token;
            }
        }
    }
}
