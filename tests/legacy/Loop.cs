using System;
using System.Reflection;
using System.Threading;
using System.Threading.Tasks;

/// Loop CLASS METHOD ARGUMENT…: what CLASS.METHOD(ARGUMENT…), or new CLASS(ARGUMENT).METHOD(ARGUMENT…), gives, again and
/// again; `! why` when it throws.
static class Loop
{
    static void Main(string[] args)
    {
        Type type = Type.GetType(args[0], true);
        MethodInfo method = type.GetMethod(args[1]);
        int first = method.IsStatic ? 2 : 3;
        object target = method.IsStatic ? null : Activator.CreateInstance(type, args[2]);
        string[] arguments = new string[args.Length - first];
        Array.Copy(args, first, arguments, 0, arguments.Length);
        for (;;)
        {
            try
            {
                object result = method.Invoke(target, arguments);
                Task<string> task = result as Task<string>;
                Console.WriteLine(task == null ? result : task.GetAwaiter().GetResult());
            }
            catch (Exception error)
            {
                Exception inner = error is TargetInvocationException ? error.InnerException : error;
                Console.WriteLine("! " + inner.Message.Replace('\n', ' '));
            }
            Thread.Sleep(50);
        }
    }
}
