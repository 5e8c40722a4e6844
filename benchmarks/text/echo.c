/* What the load generator is measured against: the least that a server can do with a line.
 *
 * echo ANSWER
 *
 * Listens on a free port of 127.0.0.1, says "listening: 127.0.0.1:PORT", and answers each line feed that it reads
 * with the line ANSWER. One process, epoll, nothing parsed. It takes callers for granted that read their answers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_BYTES 65536
#define EVENTS 256
#define BACKLOG 1024

static char *answers; /* the answer RECEIVE_BYTES times: one for each byte, were all of them line feeds */
static size_t answer_bytes;

static void prepare(const char *answer)
{
    answer_bytes = strlen(answer) + 1;
    answers = malloc(answer_bytes * RECEIVE_BYTES);
    if (!answers)
        exit(2);
    for (size_t i = 0; i < answer_bytes * RECEIVE_BYTES; i++)
        answers[i] = i % answer_bytes == answer_bytes - 1 ? '\n' : answer[i % answer_bytes];
}

/* Answer what is there; a connection that ends, or does not take its answers, is closed. */
static void serve(int fd)
{
    static char got[RECEIVE_BYTES];
    size_t lines = 0;
    ssize_t n = recv(fd, got, sizeof got, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        close(fd);
        return;
    }
    for (const char *at = got; (at = memchr(at, '\n', got + n - at)); at++)
        lines++;
    if (lines && send(fd, answers, lines * answer_bytes, MSG_NOSIGNAL) != (ssize_t)(lines * answer_bytes))
        close(fd);
}

static void accept_all(int listener, int poller)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
            close(fd);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "echo ANSWER\n");
        return 2;
    }
    prepare(argv[1]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS], accepts = {.events = EPOLLIN, .data.fd = listener};
    if (listener < 0 || poller < 0 || bind(listener, (struct sockaddr *)&address, size) < 0
        || listen(listener, BACKLOG) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0
        || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &accepts) < 0) {
        perror("echo");
        return 2;
    }
    fprintf(stderr, "listening: 127.0.0.1:%d\n", ntohs(address.sin_port));
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < n; i++)
            if (events[i].data.fd == listener)
                accept_all(listener, poller);
            else
                serve(events[i].data.fd);
    }
}
