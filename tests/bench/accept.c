/* The least that a token socket can do, on one thread: accept, write, close. What the daemon is measured by. */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc != 3)
		return 2;
	strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4096))
		return 1;
	for (;;) {
		int connection = accept(listener, NULL, NULL);

		if (connection < 0 || write(connection, argv[2], strlen(argv[2])) < 0)
			return 1;
		close(connection);
	}
}
