using System;
using System.Reflection;
using System.Threading;

/// Loop CLASS METHOD ARGUMENT…: what CLASS.METHOD(ARGUMENT…) gives, again and again; `! why` when it throws.
static class Loop
{
    static void Main(string[] args)
    {
        MethodInfo method = Type.GetType(args[0], true).GetMethod(args[1]);
        string[] arguments = new string[args.Length - 2];
        Array.Copy(args, 2, arguments, 0, arguments.Length);
        for (;;)
        {
            try
            {
                Console.WriteLine(method.Invoke(null, arguments));
            }
            catch (TargetInvocationException error)
            {
                Console.WriteLine("! " + error.InnerException.Message.Replace('\n', ' '));
            }
            Thread.Sleep(50);
        }
    }
}
