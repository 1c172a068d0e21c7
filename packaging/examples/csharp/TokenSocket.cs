using System;
using System.IO;
using System.Net.Sockets;
using System.Text;
#if !NET
using Mono.Unix;
#endif

/// The token from wxtokend's token socket (format = "raw"), on .NET and, with Mono.Posix, on any Mono.
static class TokenSocket
{
    public static string AccessToken(string path)
    {
        using (Socket socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            socket.ReceiveTimeout = 2000;
#if NET
            socket.Connect(new UnixDomainSocketEndPoint(path));
#else
            socket.Connect(new UnixEndPoint(path));
#endif
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
