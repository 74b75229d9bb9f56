/* Addresses of sockets, as NBD's options name them. */
#ifndef BLOCK_NBD_SOCKET_H
#define BLOCK_NBD_SOCKET_H

#include <stdbool.h>

struct err;

struct sock_addr {
    char *path;        /* a unix socket, or */
    char *host, *port; /* TCP */
};

void sock_addr_free(struct sock_addr *a);
char *sock_addr_text(const struct sock_addr *a); /* freed by the caller */
/* In a coroutine. The socket or -errno. */
int sock_connect(const struct sock_addr *a, struct err *err);
/* Fills at most `max` listening sockets; how many, or -errno. */
int sock_listen(const struct sock_addr *a, int *fds, int max, struct err *err);

#endif
