/*
 * TLS by gnutls. The library is loaded when somebody first asks for TLS, so that nobody else pays
 * for it. Credentials lie in folders as published for tls-creds objects: ca-cert.pem, ca-crl.pem,
 * server-cert.pem, server-key.pem, client-cert.pem, client-key.pem; keys.psk for -psk.
 *
 * Does not do: encrypted private keys, authorization lists.
 */
#include <dlfcn.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/driver.h"
#include "block/nbd/channel.h"
#include "block/nbd/tls.h"
#include "loop/co.h"
#include "loop/loop.h"

/* What we use of it; `&name` is never taken, so nothing is linked. */
struct fns {
    __typeof__(gnutls_init) *init;
    __typeof__(gnutls_deinit) *deinit;
    __typeof__(gnutls_priority_set_direct) *priority;
    __typeof__(gnutls_credentials_set) *credentials;
    __typeof__(gnutls_transport_set_int2) *transport;
    __typeof__(gnutls_handshake) *handshake;
    __typeof__(gnutls_record_recv) *recv;
    __typeof__(gnutls_record_send) *send;
    __typeof__(gnutls_record_get_direction) *direction;
    __typeof__(gnutls_bye) *bye;
    __typeof__(gnutls_strerror) *text;
    __typeof__(gnutls_server_name_set) *server_name;
    __typeof__(gnutls_session_set_verify_cert) *verify;
    __typeof__(gnutls_certificate_server_set_request) *ask_client;
    __typeof__(gnutls_certificate_allocate_credentials) *x509_new;
    __typeof__(gnutls_certificate_free_credentials) *x509_free;
    __typeof__(gnutls_certificate_set_x509_trust_file) *x509_trust;
    __typeof__(gnutls_certificate_set_x509_key_file) *x509_key;
    __typeof__(gnutls_certificate_set_x509_crl_file) *x509_crl;
    __typeof__(gnutls_psk_allocate_client_credentials) *psk_client_new;
    __typeof__(gnutls_psk_free_client_credentials) *psk_client_free;
    __typeof__(gnutls_psk_set_client_credentials) *psk_client_set;
    __typeof__(gnutls_psk_allocate_server_credentials) *psk_server_new;
    __typeof__(gnutls_psk_free_server_credentials) *psk_server_free;
    __typeof__(gnutls_psk_set_server_credentials_file) *psk_server_set;
    __typeof__(gnutls_anon_allocate_client_credentials) *anon_client_new;
    __typeof__(gnutls_anon_free_client_credentials) *anon_client_free;
    __typeof__(gnutls_anon_allocate_server_credentials) *anon_server_new;
    __typeof__(gnutls_anon_free_server_credentials) *anon_server_free;
};

#define FN(field, name)                                                                            \
    {                                                                                              \
        offsetof(struct fns, field), "gnutls_" name                                                \
    }
static const struct {
    size_t off;
    const char *name;
} names[] = {
    FN(init, "init"),
    FN(deinit, "deinit"),
    FN(priority, "priority_set_direct"),
    FN(credentials, "credentials_set"),
    FN(transport, "transport_set_int2"),
    FN(handshake, "handshake"),
    FN(recv, "record_recv"),
    FN(send, "record_send"),
    FN(direction, "record_get_direction"),
    FN(bye, "bye"),
    FN(text, "strerror"),
    FN(server_name, "server_name_set"),
    FN(verify, "session_set_verify_cert"),
    FN(ask_client, "certificate_server_set_request"),
    FN(x509_new, "certificate_allocate_credentials"),
    FN(x509_free, "certificate_free_credentials"),
    FN(x509_trust, "certificate_set_x509_trust_file"),
    FN(x509_key, "certificate_set_x509_key_file"),
    FN(x509_crl, "certificate_set_x509_crl_file"),
    FN(psk_client_new, "psk_allocate_client_credentials"),
    FN(psk_client_free, "psk_free_client_credentials"),
    FN(psk_client_set, "psk_set_client_credentials"),
    FN(psk_server_new, "psk_allocate_server_credentials"),
    FN(psk_server_free, "psk_free_server_credentials"),
    FN(psk_server_set, "psk_set_server_credentials_file"),
    FN(anon_client_new, "anon_allocate_client_credentials"),
    FN(anon_client_free, "anon_free_client_credentials"),
    FN(anon_server_new, "anon_allocate_server_credentials"),
    FN(anon_server_free, "anon_free_server_credentials"),
};

enum creds_kind { CREDS_X509, CREDS_PSK, CREDS_ANON };

/* One of a connection; all in memory that channel_tls's free() gives back. */
struct session {
    struct fns f;
    void *library;
    gnutls_session_t s;
    enum creds_kind kind;
    bool server;
    void *creds;
    char *host;
};

static int load(struct session *t, struct err *err)
{
    t->library = dlopen("libgnutls.so.30", RTLD_NOW | RTLD_LOCAL);
    if (!t->library) {
        return err_set(err, ENOTSUP, "TLS needs the library gnutls (Debian: libgnutls30): %s",
                       dlerror());
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        void *at = dlsym(t->library, names[i].name);
        if (!at) {
            return err_set(err, ENOTSUP, "the library gnutls has no %s", names[i].name);
        }
        memcpy((char *)&t->f + names[i].off, &at, sizeof(at));
    }
    return 0;
}

static void session_free(void *opaque)
{
    struct session *t = opaque;
    if (t->s) {
        t->f.bye(t->s, GNUTLS_SHUT_WR);
        t->f.deinit(t->s);
    }
    if (t->creds) {
        switch (t->kind) {
        case CREDS_X509: t->f.x509_free(t->creds); break;
        case CREDS_PSK:
            t->server ? t->f.psk_server_free(t->creds) : t->f.psk_client_free(t->creds);
            break;
        case CREDS_ANON:
            t->server ? t->f.anon_server_free(t->creds) : t->f.anon_client_free(t->creds);
            break;
        }
    }
    if (t->library) {
        dlclose(t->library);
    }
    free(t->host);
    free(t);
}

/* ---- Credentials ---- */

static int failed(struct session *t, int why, const char *what, struct err *err)
{
    return err_set(err, EACCES, "TLS: %s: %s", what, t->f.text(why));
}

static int load_x509(struct session *t, const char *dir, struct err *err)
{
    const char *side = t->server ? "server" : "client";
    AUTO_FREE char *ca = alloc_printf("%s/ca-cert.pem", dir),
                   *crl = alloc_printf("%s/ca-crl.pem", dir),
                   *cert = alloc_printf("%s/%s-cert.pem", dir, side),
                   *key = alloc_printf("%s/%s-key.pem", dir, side);
    gnutls_certificate_credentials_t c;
    int ret = t->f.x509_new(&c);
    if (ret < 0) {
        return failed(t, ret, "credentials", err);
    }
    t->creds = c;
    ret = t->f.x509_trust(c, ca, GNUTLS_X509_FMT_PEM);
    if (ret < 0) {
        return failed(t, ret, ca, err);
    }
    if (t->server || !access(cert, F_OK)) {
        ret = t->f.x509_key(c, cert, key, GNUTLS_X509_FMT_PEM);
    }
    if (ret >= 0 && !access(crl, F_OK)) {
        ret = t->f.x509_crl(c, crl, GNUTLS_X509_FMT_PEM);
    }
    return ret < 0 ? failed(t, ret, cert, err) : 0;
}

/* "name:hexkey" of that name in keys.psk. */
static int psk_key(const char *path, const char *user, char *line, size_t room, struct err *err)
{
    FILE *file = fopen(path, "r");
    size_t n = strlen(user);
    while (file && fgets(line, (int)room, file)) {
        if (!strncmp(line, user, n) && line[n] == ':') {
            line[strcspn(line, "\r\n")] = 0;
            memmove(line, line + n + 1, strlen(line + n + 1) + 1);
            fclose(file);
            return 0;
        }
    }
    if (file) {
        fclose(file);
    }
    return err_set(err, ENOENT, "TLS: no key of '%s' in '%s'", user, path);
}

static int load_psk(struct session *t, const char *dir, const char *user, struct err *err)
{
    AUTO_FREE char *path = alloc_printf("%s/keys.psk", dir);
    char line[1024];
    int ret;
    if (t->server) {
        gnutls_psk_server_credentials_t c;
        ret = t->f.psk_server_new(&c);
        t->creds = ret < 0 ? NULL : c;
        ret = ret < 0 ? ret : t->f.psk_server_set(c, path);
        return ret < 0 ? failed(t, ret, path, err) : 0;
    }
    gnutls_psk_client_credentials_t c;
    ret = psk_key(path, user, line, sizeof(line), err);
    if (ret) {
        return ret;
    }
    gnutls_datum_t key = {(unsigned char *)line, (unsigned)strlen(line)};
    ret = t->f.psk_client_new(&c);
    t->creds = ret < 0 ? NULL : c;
    ret = ret < 0 ? ret : t->f.psk_client_set(c, user, &key, GNUTLS_PSK_KEY_HEX);
    explicit_bzero(line, sizeof(line));
    return ret < 0 ? failed(t, ret, path, err) : 0;
}

static int load_anon(struct session *t, struct err *err)
{
    gnutls_anon_client_credentials_t c = NULL;
    gnutls_anon_server_credentials_t s = NULL;
    int ret = t->server ? t->f.anon_server_new(&s) : t->f.anon_client_new(&c);
    t->creds = t->server ? (void *)s : (void *)c;
    return ret < 0 ? failed(t, ret, "credentials", err) : 0;
}

static int load_creds(struct session *t, const struct keyval *o, const char *id, struct err *err)
{
    const char *type = o ? keyval_get(o, "qom-type") : "", *dir = o ? keyval_get(o, "dir") : NULL,
               *user = o ? keyval_get(o, "username") : NULL,
               *end = o ? keyval_get(o, "endpoint") : NULL;
    if (!o) {
        return err_set(err, ENOENT, "No TLS credentials with id '%s'", id);
    }
    if (end && strcmp(end, t->server ? "server" : "client")) {
        return err_set(err, EINVAL, "the TLS credentials '%s' are for a %s, not a %s", id, end,
                       t->server ? "server" : "client");
    }
    if (!strcmp(type, "tls-creds-anon")) {
        t->kind = CREDS_ANON;
        return load_anon(t, err);
    }
    if (!dir) {
        return err_set(err, EINVAL, "the TLS credentials '%s' need dir=FOLDER", id);
    }
    t->kind = !strcmp(type, "tls-creds-psk") ? CREDS_PSK : CREDS_X509;
    return t->kind == CREDS_PSK ? load_psk(t, dir, user ? user : "qemu", err)
                                : load_x509(t, dir, err);
}

/* ---- Sessions ---- */

static int set_up(struct session *t, const struct keyval *o, struct channel *ch, struct err *err)
{
    static const char *const extra[] = {"NORMAL", "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK",
                                        "NORMAL:+ANON-DH"};
    static const gnutls_credentials_type_t types[] = {GNUTLS_CRD_CERTIFICATE, GNUTLS_CRD_PSK,
                                                      GNUTLS_CRD_ANON};
    const char *priority = keyval_get(o, "priority");
    bool verify = true;
    unsigned flags =
        GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | (t->server ? GNUTLS_SERVER : GNUTLS_CLIENT);
    int ret = block_opt_bool(o, "verify-peer", &verify, err);
    if (ret) {
        return ret;
    }
    ret = t->f.init(&t->s, flags);
    ret = ret < 0 ? ret : t->f.priority(t->s, priority ? priority : extra[t->kind], NULL);
    ret = ret < 0 ? ret : t->f.credentials(t->s, types[t->kind], t->creds);
    if (ret >= 0 && t->kind == CREDS_X509 && t->server && verify) {
        t->f.ask_client(t->s, GNUTLS_CERT_REQUIRE);
        t->f.verify(t->s, NULL, 0);
    } else if (ret >= 0 && t->kind == CREDS_X509 && !t->server) {
        ret = t->host ? t->f.server_name(t->s, GNUTLS_NAME_DNS, t->host, strlen(t->host)) : 0;
        if (verify) {
            t->f.verify(t->s, t->host, 0);
        }
    }
    if (ret < 0) {
        return failed(t, ret, "setting up a session", err);
    }
    t->f.transport(t->s, ch->in, ch->out);
    return 0;
}

static int shake_hands(struct session *t, struct channel *ch, struct err *err)
{
    for (unsigned warnings = 0;;) {
        int ret = t->f.handshake(t->s);
        if (ret == GNUTLS_E_SUCCESS) {
            return 0;
        }
        if (ret == GNUTLS_E_AGAIN || ret == GNUTLS_E_INTERRUPTED) {
            bool out = t->f.direction(t->s);
            co_wait_fd(out ? ch->out : ch->in, out ? LOOP_OUT : LOOP_IN);
        } else if (ret < 0 && (ret != GNUTLS_E_WARNING_ALERT_RECEIVED || ++warnings > 16)) {
            return failed(t, ret, "handshake", err);
        }
    }
}

static ssize_t result(ssize_t n)
{
    return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? -EAGAIN : n < 0 ? -EIO : n;
}

static ssize_t session_read(void *opaque, void *buf, size_t len)
{
    struct session *t = opaque;
    return result(t->f.recv(t->s, buf, len));
}

static ssize_t session_write(void *opaque, const void *buf, size_t len)
{
    struct session *t = opaque;
    return result(t->f.send(t->s, buf, len));
}

static const struct channel_tls tls_ops = {session_read, session_write, session_free};

static int start(struct channel *ch, struct block_graph *g, const char *id, bool server,
                 const char *host, struct err *err)
{
    struct session *t = alloc_zero(sizeof(*t));
    const struct keyval *o = block_find_object(g, id);
    t->server = server;
    t->host = alloc_text(host);
    int ret = load(t, err);
    ret = ret ? ret : load_creds(t, o, id, err);
    ret = ret ? ret : set_up(t, o, ch, err);
    ret = ret ? ret : shake_hands(t, ch, err);
    if (ret) {
        session_free(t);
        return ret;
    }
    ch->tls = &tls_ops;
    ch->session = t;
    return 0;
}

int tls_start_client(struct channel *ch, struct block_graph *g, const char *creds, const char *host,
                     struct err *err)
{
    return start(ch, g, creds, false, host, err);
}

int tls_start_server(struct channel *ch, struct block_graph *g, const char *creds, struct err *err)
{
    return start(ch, g, creds, true, NULL, err);
}
