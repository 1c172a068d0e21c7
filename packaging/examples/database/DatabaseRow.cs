using System.Data;
using System.IO;
using Mono.Data.Sqlite;

/// An app that keeps its accounts in a table, one row each. Nothing in it changes but that its own refresh goes: the row is
/// kept by `wxtokend-feed`. Here with SQLite; SqlConnection and MySqlConnection are used alike.
static class DatabaseRow
{
    public static string AccessToken(string database, string userName)
    {
        using (IDbConnection connection = new SqliteConnection("Data Source=" + database))
        {
            connection.Open();
            using (IDbCommand command = connection.CreateCommand())
            {
                command.CommandText = "select access_token from CONFIG where UserName = @name";
                IDbDataParameter name = command.CreateParameter();
                name.ParameterName = "@name";
                name.Value = userName;
                command.Parameters.Add(name);
                string token = command.ExecuteScalar() as string;
                if (string.IsNullOrEmpty(token))
                    throw new InvalidDataException(userName + ": no valid token now");
                return token;
            }
        }
    }
}
