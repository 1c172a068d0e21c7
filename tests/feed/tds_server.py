"""A server that speaks the protocol of SQL Server and runs statements on SQLite.

    tds_server.py PORT DATABASE CERTIFICATE KEY LOG

Lets in the user wxfeed with the password that stands in the file `login` beside LOG. What it is asked, and whether that
came encrypted, goes to LOG, a line of JSON each. Other files beside LOG change how it behaves: with `hold` no UPDATE is
answered, with `read-only` and `full` each is refused, in the words of SQL Server.
"""

import json
import os
import socket
import socketserver
import sqlite3
import sys
import time

from pysqlbridge.certificate import Certificate, server_context
from pysqlbridge.tds import connection as protocol
from pysqlbridge.tds.connection import Connection
from pysqlbridge.tds.result import Column, NVarChar, QueryError, QueryResult
from pysqlbridge.tds.token import DoneStatus, done

PORT, DATABASE, CERTIFICATE, KEY, LOG = sys.argv[1:]
REFUSALS = {
    "read-only": (3906, 'Failed to update database "app" because the database is read-only.'),
    "full": (1105, "Could not allocate space for object 'dbo.t' in database 'app' because the 'PRIMARY' filegroup is full."),
}
PEM = Certificate(open(CERTIFICATE, "rb").read(), open(KEY, "rb").read())
# One context for all connections: to make one writes two files.
CONTEXT = server_context(PEM)
protocol.server_context = lambda certificate: CONTEXT


def beside(name):
    return os.path.join(os.path.dirname(LOG), name)


def is_there(name):
    return os.path.exists(beside(name))


class Logins:
    configured = True

    def admits(self, user, password):
        with open(beside("login")) as login:
            return user == "wxfeed" and password == login.read()


class Counted:
    """The answer to a statement that returns no rows: how many it found."""

    def __init__(self, rows):
        self.rows = rows

    def encode(self, tds_version, server=""):
        return done(status=DoneStatus.COUNT, row_count=max(self.rows, 0), tds_version=tds_version)


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        # Answers go out as they are written, in several parts each.
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        database = sqlite3.connect(DATABASE, isolation_level=None, timeout=60)
        # A server that is killed loses nothing: the machine stays up.
        database.execute("PRAGMA synchronous = OFF")

        def answer(query):
            parameters = {name.lstrip("@"): value for name, value in query.parameters.items()}
            with open(LOG, "a") as log:
                line = {"sql": query.sql, "parameters": parameters, "encrypted": connection.session_encrypted}
                log.write(json.dumps(line, default=str) + "\n")
            sql = query.sql
            if sql.startswith("UPDATE"):
                while is_there("hold"):
                    time.sleep(0.02)
                for name, (number, message) in REFUSALS.items():
                    if is_there(name):
                        raise QueryError(message, number=number)
            if "sp_prepare" in sql:
                sql, parameters = "EXPLAIN " + parameters["P2"], {f"P{n}": "" for n in range(1, 20)}
            try:
                cursor = database.execute(sql, parameters)
            except sqlite3.IntegrityError:
                value = str(parameters["P1"])
                raise QueryError(
                    f"String or binary data would be truncated in table 't', column 'c'. Truncated value: '{value[:20]}'.",
                    number=2628,
                ) from None
            except sqlite3.Error as error:
                raise QueryError(str(error), number=208) from None
            if cursor.description is None or sql.startswith("EXPLAIN"):
                return Counted(cursor.rowcount)
            rows = [[None if row[0] is None else str(row[0])] for row in cursor.fetchall()]
            return QueryResult([Column("value", NVarChar(512))], rows)

        connection = Connection(PEM, query_handler=answer, logins=Logins())
        try:
            while data := self.request.recv(65536):
                for response in connection.receive(data):
                    self.request.sendall(response)
        finally:
            # What was not committed is rolled back.
            database.close()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("127.0.0.1", int(PORT)), Handler).serve_forever()
