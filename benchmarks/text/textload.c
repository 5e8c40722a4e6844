/* A load generator for line protocols: asks the same line over and over, and compares every byte of the answers.
 *
 * textload PORT MODE CONNECTIONS WINDOW WARMUP SECONDS REQUEST ANSWER
 *
 * MODE is `keep` (each connection is kept, with WINDOW requests outstanding on it: as many are asked anew as are
 * answered) or `each` (a connection per request: connect, one line, one line back, close; CONNECTIONS are under way).
 * REQUEST and ANSWER come without their line feed. Counts what is answered in the SECONDS after the WARMUP, then
 * asks no more and waits for what is outstanding. Prints one JSON object; its `requests` mean something only if
 * `mismatches`, `errors`, `refused` and `missing` are 0.
 *
 * One process without threads; a request costs it one send and one recv, and fewer where several go together.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

/* A closed connection keeps its four numbers for a minute (TIME_WAIT), so that one source address is good for some
 * 28,000 connections to one port. Ordinary callers close without a reset, and so does this: it calls from
 * 127.0.1.1 to 127.0.1.SOURCES in turn instead. The kernel picks the port as late as at connect, where it
 * knows the other end: bound earlier, a port would be taken for all servers at once. */
#define SOURCES 128

#define RECEIVE_BYTES 65536
#define DRAIN_S 2.0   /* what is not answered so long after the end is missing */
#define LATE_S 0.02   /* and for so long what nobody asked for may come */
#define LIMIT_S 10    /* beyond all of the above the kernel ends this process */
#define EVENTS 256

struct connection {
    int fd;            /* -1: none, and none will be */
    int waits_to_send; /* EPOLLOUT is asked for */
    size_t unsent;     /* bytes of requests that the socket did not take yet */
    size_t sent_at;    /* where in a request the next byte to send is */
    size_t got_at;     /* where in an answer the next byte to come is */
    long outstanding;  /* requests asked and not answered */
};

static struct sockaddr_in server;
static int poller, each, window, live;
static int asking = 1;
static unsigned source;
static char *requests, *answers; /* the line again and again: as much of it as one send or recv can reach */
static size_t request_bytes, answer_bytes;
static long answered, mismatches, errors, refused, missing;
static char first_fault[200];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

/* Count a fault, keep the first one's words, and give its connection up. */
static void fault(struct connection *c, long *counter, const char *what)
{
    ++*counter;
    if (!*first_fault)
        snprintf(first_fault, sizeof first_fault, "%s", what);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    live--;
}

static void watch(struct connection *c, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (c->waits_to_send ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0) {
        perror("epoll_ctl");
        exit(2);
    }
}

/* Send what is due. Returns 0 if the connection is given up. */
static int push(struct connection *c)
{
    while (c->unsent) {
        ssize_t n = send(c->fd, requests + c->sent_at, c->unsent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN)
                return 1;
            fault(c, errno == ECONNREFUSED ? &refused : &errors, strerror(errno));
            return 0;
        }
        c->unsent -= n;
        c->sent_at = (c->sent_at + n) % request_bytes;
    }
    return 1;
}

/* Ask for EPOLLOUT while something is unsent, and no longer. */
static void settle(struct connection *c)
{
    int waits = c->unsent > 0;
    if (waits != c->waits_to_send) {
        c->waits_to_send = waits;
        watch(c, EPOLL_CTL_MOD);
    }
}

static void ask(struct connection *c, long more)
{
    c->outstanding += more;
    c->unsent += more * request_bytes;
}

static void open_connection(struct connection *c)
{
    int on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000101 + source++ % SOURCES)};
    memset(c, 0, sizeof *c);
    live++;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) < 0
        || (!each && setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        || bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0
        || (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)) {
        fault(c, errno == ECONNREFUSED ? &refused : &errors, strerror(errno));
        return;
    }
    ask(c, window);
    if (!push(c)) /* on loopback the connection mostly stands already */
        return;
    c->waits_to_send = c->unsent > 0;
    watch(c, EPOLL_CTL_ADD);
}

/* The answer of a connection per request is complete: close, and go on with the next. */
static void next_connection(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
    live--;
    if (asking)
        open_connection(c);
}

static void receive(struct connection *c)
{
    static char got[RECEIVE_BYTES];
    ssize_t n = recv(c->fd, got, sizeof got, 0);
    if (n < 0) {
        if (errno != EAGAIN)
            fault(c, errno == ECONNREFUSED ? &refused : &errors, strerror(errno));
        return;
    }
    if (n == 0) {
        fault(c, &errors, "closed by the server");
        return;
    }
    long lines = (c->got_at + n) / answer_bytes;
    if (memcmp(got, answers + c->got_at, n) || (size_t)(c->got_at + n) > c->outstanding * answer_bytes) {
        char text[120];
        snprintf(text, sizeof text, "answered %.*s", (int)(n < 100 ? n : 100), got);
        fault(c, &mismatches, text);
        return;
    }
    c->got_at = (c->got_at + n) % answer_bytes;
    c->outstanding -= lines;
    answered += lines;
    if (each) {
        if (lines)
            next_connection(c);
        return;
    }
    if (asking && lines)
        ask(c, lines);
    if (push(c))
        settle(c);
}

static long outstanding(const struct connection *all, int connections)
{
    long sum = 0;
    for (int i = 0; i < connections; i++)
        if (all[i].fd >= 0)
            sum += all[i].outstanding;
    return sum;
}

/* Serve what happens until `end`, or until `all` has nothing outstanding where it is given. */
static void serve(double end, const struct connection *all, int connections)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        double left = end - now();
        if (left <= 0 || live == 0 || (all && !outstanding(all, connections)))
            return;
        int n = epoll_wait(poller, events, EVENTS, (int)(left * 1000) + 1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0 && events[i].events & EPOLLOUT && push(c))
                settle(c);
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
                receive(c);
        }
    }
}

/* `line` and a line feed, as often as it takes to hold `bytes` from anywhere within the first. */
static char *repeated(const char *line, size_t bytes, size_t *line_bytes)
{
    size_t n = strlen(line) + 1, size = bytes + 2 * n;
    char *all = malloc(size);
    if (!all)
        exit(2);
    for (size_t i = 0; i < size; i++)
        all[i] = i % n == n - 1 ? '\n' : line[i % n];
    *line_bytes = n;
    return all;
}

static void print_text(const char *text)
{
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else
            putchar(*text < ' ' || *text > '~' ? '?' : *text);
}

int main(int argc, char **argv)
{
    if (argc != 9 || (strcmp(argv[2], "keep") && strcmp(argv[2], "each"))) {
        fprintf(stderr, "textload PORT keep|each CONNECTIONS WINDOW WARMUP SECONDS REQUEST ANSWER\n");
        return 2;
    }
    each = !strcmp(argv[2], "each");
    int connections = atoi(argv[3]);
    window = each ? 1 : atoi(argv[4]);
    double warmup = atof(argv[5]), seconds = atof(argv[6]);
    if (connections < 1 || window < 1 || seconds <= 0) {
        fprintf(stderr, "textload: CONNECTIONS, WINDOW and SECONDS are above 0\n");
        return 2;
    }
    alarm((unsigned)(warmup + seconds + DRAIN_S + LIMIT_S));
    server = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    requests = repeated(argv[7], (strlen(argv[7]) + 1) * (window + 1), &request_bytes);
    answers = repeated(argv[8], RECEIVE_BYTES, &answer_bytes);
    source = getpid(); /* runs in a row begin at different addresses */
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc(connections, sizeof *all);
    if (poller < 0 || !all)
        return 2;

    for (int i = 0; i < connections; i++)
        open_connection(&all[i]);
    serve(now() + warmup, NULL, 0);
    long before = answered;
    double began = now(), cpu_before = cpu();
    serve(began + seconds, NULL, 0);
    long requested = answered - before;
    double took = now() - began, used = cpu() - cpu_before;
    asking = 0;
    serve(now() + DRAIN_S, all, connections);
    missing = outstanding(all, connections);
    if (!missing)
        serve(now() + LATE_S, NULL, 0);

    printf("{\"requests\": %ld, \"seconds\": %.6f, \"cpu\": %.6f, \"mismatches\": %ld, \"errors\": %ld, "
           "\"refused\": %ld, \"missing\": %ld, \"fault\": \"",
           requested, took, used, mismatches, errors, refused, missing);
    print_text(first_fault);
    printf("\"}\n");
    return 0;
}
