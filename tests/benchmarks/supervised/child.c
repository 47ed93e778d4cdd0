/* The tiny child: stamps its first instruction, then waits to be killed. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words)
{
    struct timespec now;
    struct sockaddr_un there = {.sun_family = AF_UNIX};
    char line[200];

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (count < 3)
        return 2;
    strncpy(there.sun_path, words[1], sizeof there.sun_path - 1);
    int length = snprintf(line, sizeof line, "%s %d %lld", words[2], (int)getpid(),
                          now.tv_sec * 1000000000LL + now.tv_nsec);
    sendto(socket(AF_UNIX, SOCK_DGRAM, 0), line, length, 0, (void *)&there, sizeof there);
    for (;;)
        pause();
}
