/* An @connections endpoint over TLS that answers every request with 200 after a given time: one thread, epoll, OpenSSL.
 *
 *     at_connections CERTIFICATE KEY
 *
 * It prints its port and serves until its standard input ends. Python could not answer as fast as Python sends, so
 * bench_fanout.py compiles this. `GET /latency/US` sets the time; `GET /stats` answers, and begins anew:
 * {"answered", "connections", "first_us", "last_us"}, the latter two when answers left, on CLOCK_MONOTONIC. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 4096, BUFFER = 65536 };

typedef struct {
    SSL *tls;
    int is_open, length;
    long serial;
    char buffer[BUFFER];
} Connection;

typedef struct {
    int fd;
    long serial, due_us;
} Due;

static Connection *connections[MAX_CONNECTIONS];
static Due due[MAX_CONNECTIONS];
static unsigned due_first, due_end;
static long latency_us, answered, opened, first_us, last_us;
static const char OK[] = "HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 09:30:10 GMT\r\nContent-Type: application/json\r\n"
                         "Content-Length: 0\r\nConnection: keep-alive\r\nx-amzn-RequestId: 8a1b7e0c-1f4e-4a55-9f0a-0c2f5f5d7f3e\r\n"
                         "x-amz-apigw-id: a1b2c3d4e5f6g7h=\r\nX-Amzn-Trace-Id: Root=1-67e2a1b2-0c1d2e3f4a5b6c7d8e9f0a1b\r\n\r\n";

static long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static void end(int fd) {
    SSL_free(connections[fd]->tls);
    free(connections[fd]);
    connections[fd] = NULL;
    close(fd);
}

static void answer(int fd) {
    last_us = now_us();
    if (!answered++) first_us = last_us;
    if (SSL_write(connections[fd]->tls, OK, sizeof OK - 1) <= 0) end(fd);
}

static void tell(int fd, const char *body) {
    char text[512];
    int length = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    if (SSL_write(connections[fd]->tls, text, length) <= 0) end(fd);
}

static void serve(int fd, long serial) {
    Connection *it = connections[fd];
    char body[256];
    if (!strncmp(it->buffer, "GET /latency/", 13)) {
        latency_us = atol(it->buffer + 13);
        tell(fd, "{}");
    } else if (!strncmp(it->buffer, "GET /stats", 10)) {
        snprintf(body, sizeof body, "{\"answered\":%ld,\"connections\":%ld,\"first_us\":%ld,\"last_us\":%ld}", answered,
                 opened, first_us, last_us);
        answered = opened = 0;
        tell(fd, body);
    } else if (latency_us) {
        due[due_end++ % MAX_CONNECTIONS] = (Due){fd, serial, now_us() + latency_us};
    } else {
        answer(fd);
    }
}

/* The size of the request that the buffer begins with, or 0 if it is not there yet. */
static int whole(Connection *it) {
    char *head_end = memmem(it->buffer, it->length, "\r\n\r\n", 4), *field;
    if (!head_end) return 0;
    int size = head_end + 4 - it->buffer;
    *head_end = 0;
    field = strcasestr(it->buffer, "\r\ncontent-length:");
    size += field ? atoi(field + 17) : 0;
    *head_end = '\r';
    return it->length >= size ? size : 0;
}

static void hear(int fd) {
    Connection *it = connections[fd];
    if (!it) return;
    /* Else SSL_get_error would tell of another connection's end. */
    ERR_clear_error();
    if (!it->is_open) {
        int done = SSL_accept(it->tls);
        if (done <= 0) {
            if (SSL_get_error(it->tls, done) != SSL_ERROR_WANT_READ) end(fd);
            return;
        }
        it->is_open = 1;
    }
    for (;;) {
        int got = SSL_read(it->tls, it->buffer + it->length, BUFFER - 1 - it->length);
        if (got <= 0) {
            if (SSL_get_error(it->tls, got) != SSL_ERROR_WANT_READ) end(fd);
            return;
        }
        it->length += got;
        it->buffer[it->length] = 0;
        int size = whole(it);
        if (size) {
            serve(fd, it->serial);
            if (connections[fd] != it) return;
            memmove(it->buffer, it->buffer + size, it->length - size + 1);
            it->length -= size;
        }
    }
}

int main(int count, char **arguments) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0), one = 1;
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    long serial = 0;
    if (count != 3 || SSL_CTX_use_certificate_chain_file(context, arguments[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, arguments[2], SSL_FILETYPE_PEM) != 1 ||
        bind(listener, (void *)&address, length) || listen(listener, 1024) ||
        getsockname(listener, (void *)&address, &length)) {
        fprintf(stderr, "at_connections CERTIFICATE KEY\n");
        return 1;
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    epoll_ctl(poll, EPOLL_CTL_ADD, 0, &(struct epoll_event){.events = EPOLLIN, .data.fd = 0});
    for (;;) {
        struct epoll_event events[256];
        struct timespec wait, *until = NULL;
        if (due_first != due_end) {
            long left = due[due_first % MAX_CONNECTIONS].due_us - now_us();
            wait = (struct timespec){0, left > 0 ? left * 1000 : 0};
            until = &wait;
        }
        int ready = epoll_pwait2(poll, events, 256, until, NULL);
        for (int index = 0; index < ready; index++) {
            int fd = events[index].data.fd;
            if (fd == 0) return 0;
            if (fd != listener) {
                hear(fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= MAX_CONNECTIONS) {
                    close(fd);
                    continue;
                }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                connections[fd] = calloc(1, sizeof(Connection));
                connections[fd]->tls = SSL_new(context);
                connections[fd]->serial = ++serial;
                opened++;
                SSL_set_fd(connections[fd]->tls, fd);
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
            }
        }
        for (long now = now_us(); due_first != due_end && due[due_first % MAX_CONNECTIONS].due_us <= now; due_first++) {
            Due next = due[due_first % MAX_CONNECTIONS];
            /* A connection that has closed, or was replaced under the same number, is not answered. */
            if (connections[next.fd] && connections[next.fd]->serial == next.serial) answer(next.fd);
        }
    }
}
