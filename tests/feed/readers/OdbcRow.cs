using System;
using System.Data;
using System.Data.Odbc;

/// What is left of a class that keeps its token in a table, over the ODBC client of the database itself.
static class OdbcRow
{
    static string AccessToken(IDbConnection connection, string userName)
    {
        connection.Open();
        using (IDbCommand command = connection.CreateCommand())
        {
            command.CommandText = "select access_token from CONFIG where UserName = ?";
            IDbDataParameter name = command.CreateParameter();
            name.Value = userName;
            command.Parameters.Add(name);
            string token = command.ExecuteScalar() as string;
            if (string.IsNullOrEmpty(token))
                throw new InvalidOperationException(userName + ": no valid token now");
            return token;
        }
    }

    static void Main(string[] args)
    {
        using (IDbConnection connection = new OdbcConnection(args[0]))
            Console.WriteLine(AccessToken(connection, args[1]));
    }
}
