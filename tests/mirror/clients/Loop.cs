using System;
using System.Threading;

static class Loop
{
    static void Main(string[] args)
    {
        MirrorToken.BaseUrl = args[0];
        for (;;)
        {
            try { Console.WriteLine(MirrorToken.Get(args[1], args[2])); }
            catch (Exception error) { Console.WriteLine("! " + error.Message.Replace('\n', ' ')); }
            Thread.Sleep(50);
        }
    }
}
