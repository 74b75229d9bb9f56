/*
 * The protocol by libvncserver: RFC 6143 with the library's encodings (raw, hextile, zlib, ZRLE,
 * tight ...), VNC authentication, and the published extension by which clients send scan codes
 * ("QEMU Extended Key Event", encoding -258), so that the client's keyboard layout does not matter.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/input-event-codes.h>
#include <rfb/rfb.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/keyval.h"
#include "display/keymap.h"
#include "display/keys.h"
#include "display/vnc_internal.h"
#include "loop/loop.h"

enum {
    FIRST_WIDTH = 640,
    FIRST_HEIGHT = 480,
    CLIENT_WAIT_MS = 10000, /* for one that neither reads nor finishes its message */
    EXTENDED_KEY = -258,
    MSG_EXTENSION = 255,
    MSG_EXTENSION_KEY = 0,
    MSG_EXTENSION_LEFT = 11, /* bytes after the type */
    KEY_CODES = 256,
    SIZE_FORWARDED = 4,
};

/* What we use of the library; `&name` is never taken, so nothing is linked. */
struct fns {
    __typeof__(rfbGetScreen) *get_screen;
    __typeof__(rfbScreenCleanup) *cleanup;
    __typeof__(rfbShutdownServer) *shut_down;
    __typeof__(rfbNewClient) *new_client;
    __typeof__(rfbProcessEvents) *process;
    __typeof__(rfbNewFramebuffer) *new_framebuffer;
    __typeof__(rfbMarkRectAsModified) *modified;
    __typeof__(rfbLogEnable) *log;
    __typeof__(rfbEncryptBytes) *encrypt;
    __typeof__(rfbReadExact) *read;
    __typeof__(rfbWriteExact) *write;
    __typeof__(rfbCloseClient) *close;
    __typeof__(rfbRegisterProtocolExtension) *extend;
    __typeof__(rfbUnregisterProtocolExtension) *no_extend;
};

#define FN(field, name)                                                                            \
    {                                                                                              \
        offsetof(struct fns, field), name                                                          \
    }
static const struct {
    size_t off;
    const char *name;
} names[] = {
    FN(get_screen, "rfbGetScreen"),
    FN(cleanup, "rfbScreenCleanup"),
    FN(shut_down, "rfbShutdownServer"),
    FN(new_client, "rfbNewClient"),
    FN(process, "rfbProcessEvents"),
    FN(new_framebuffer, "rfbNewFramebuffer"),
    FN(modified, "rfbMarkRectAsModified"),
    FN(log, "rfbLogEnable"),
    FN(encrypt, "rfbEncryptBytes"),
    FN(read, "rfbReadExact"),
    FN(write, "rfbWriteExact"),
    FN(close, "rfbCloseClient"),
    FN(extend, "rfbRegisterProtocolExtension"),
    FN(no_extend, "rfbUnregisterProtocolExtension"),
};

struct vnc_rfb {
    struct fns f;
    void *library;
    rfbScreenInfoPtr screen;
    uint32_t *pixels;
    char *name;
    unsigned made;                       /* clients since the start */
    char password[VNC_PASSWORD_MAX + 1]; /* empty: none set, nobody comes in */
    int64_t expires;                     /* seconds since 1970: the password is none from then on */
    rfbProtocolExtension keys;
    int key_encodings[2];
};

struct client {
    struct vnc *v;
    int fd, watched; /* the same socket: the library closes the first */
    uint8_t down[KEY_CODES / 8];
};

static struct vnc *vnc_of(const rfbClientRec *cl)
{
    return cl->screen->screenData;
}

/* ---- Input ---- */

static void client_key(struct client *c, unsigned code, bool down)
{
    if (!code || code >= KEY_CODES) {
        return;
    }
    uint8_t bit = (uint8_t)(1u << (code & 7));
    c->down[code / 8] = (uint8_t)(down ? c->down[code / 8] | bit : c->down[code / 8] & ~bit);
    vnc_event(c->v, &(struct vnc_event){.kind = VNC_KEY, .code = code, .down = down});
}

static bool client_holds(const void *opaque, unsigned code)
{
    const struct client *c = opaque;
    return c->down[code / 8] >> (code & 7) & 1;
}

static unsigned client_code(const struct client *c, uint32_t keysym, bool down)
{
    const struct keymap_held held = {.shift = client_holds(c, KEY_LEFTSHIFT) ||
                                              client_holds(c, KEY_RIGHTSHIFT),
                                     .altgr = client_holds(c, KEY_RIGHTALT),
                                     .key = client_holds,
                                     .opaque = c};
    return keymap_code(c->v->keymap, keysym, down, &held);
}

static void hook_key(rfbBool down, rfbKeySym keysym, rfbClientPtr cl)
{
    struct client *c = cl->clientData;
    client_key(c, client_code(c, keysym, down), down);
}

/* RFB's buttons from bit 0: left, middle, right, wheel up and down. */
static void hook_pointer(int mask, int x, int y, rfbClientPtr cl)
{
    static const unsigned buttons[] = {INPUT_LEFT, INPUT_MIDDLE, INPUT_RIGHT, INPUT_WHEEL_UP,
                                       INPUT_WHEEL_DOWN};
    const rfbScreenInfo *s = cl->screen;
    unsigned held = 0;
    for (unsigned i = 0; i < ARRAY_LEN(buttons); i++) {
        held |= mask >> i & 1 ? buttons[i] : 0;
    }
    x = x < 0 ? 0 : x >= s->width ? s->width - 1 : x;
    y = y < 0 ? 0 : y >= s->height ? s->height - 1 : y;
    const struct vnc_event e = {.kind = VNC_POINTER,
                                .code = held,
                                .x = (unsigned)x,
                                .y = (unsigned)y,
                                .width = (unsigned)s->width,
                                .height = (unsigned)s->height};
    vnc_event(vnc_of(cl), &e);
}

/* ExtendedDesktopSize: the guest decides, some time later; that has a code of its own among users
 * of the message, and clients wait. */
static int hook_size(int width, int height, int screens, struct rfbExtDesktopScreen *screen,
                     rfbClientPtr cl)
{
    struct vnc *v = vnc_of(cl);
    if (!display_takes_size(v->display)) {
        return rfbExtDesktopSize_ResizeProhibited;
    }
    if (width <= 0 || height <= 0 || screens != 1) {
        return rfbExtDesktopSize_InvalidScreenLayout;
    }
    const struct vnc_event e = {
        .kind = VNC_SIZE, .width = (unsigned)width, .height = (unsigned)height};
    vnc_event(v, &e);
    return SIZE_FORWARDED;
}

/* The client is told by an empty rectangle of this encoding that we know it. */
static rfbBool keys_enable(rfbClientPtr cl, void **data, int encoding)
{
    struct vnc *v = vnc_of(cl);
    uint8_t msg[16] = {[3] = 1}; /* update, one rectangle */
    store_be32(msg + 12, (uint32_t)encoding);
    if (encoding != EXTENDED_KEY) {
        return FALSE;
    }
    v->rfb->f.write(cl, (const char *)msg, sizeof(msg));
    return TRUE;
}

static rfbBool keys_message(rfbClientPtr cl, void *data, const rfbClientToServerMsg *message)
{
    struct vnc *v = vnc_of(cl);
    uint8_t m[MSG_EXTENSION_LEFT];
    if (message->type != MSG_EXTENSION) {
        return FALSE;
    }
    if (v->rfb->f.read(cl, (char *)m, sizeof(m)) <= 0 || m[0] != MSG_EXTENSION_KEY) {
        v->rfb->f.close(cl);
        return TRUE;
    }
    unsigned code = keys_from_scan_code(load_be32(m + 7));
    struct client *c = cl->clientData;
    bool down = load_be16(m + 1) != 0;
    client_key(c, code ? code : client_code(c, load_be32(m + 3), down), down);
    return TRUE;
}

/* ---- Clients ---- */

static void client_ready(void *opaque, int fd, unsigned events)
{
    struct vnc *v = opaque;
    vnc_lock(v);
    vnc_rfb_work(v);
    pthread_mutex_unlock(&v->lock);
}

static void hook_gone(rfbClientPtr cl)
{
    struct client *c = cl->clientData;
    cl->clientData = NULL;
    if (!c) {
        return;
    }
    for (unsigned code = 1; code < KEY_CODES; code++) {
        if (c->down[code / 8] >> (code & 7) & 1) {
            client_key(c, code, false);
        }
    }
    loop_unwatch(c->v->loop, c->watched);
    close(c->watched);
    vnc_client_gone(c->v, c->fd);
    free(c);
}

static enum rfbNewClientAction hook_new(rfbClientPtr cl)
{
    struct vnc *v = vnc_of(cl);
    struct client *c = alloc_zero(sizeof(*c));
    *c = (struct client){.v = v, .fd = cl->sock, .watched = dup(cl->sock)};
    cl->clientData = c;
    cl->clientGoneHook = hook_gone;
    v->rfb->made++;
    if (c->watched < 0 || loop_watch(v->loop, c->watched, LOOP_IN, client_ready, v)) {
        return RFB_CLIENT_REFUSE;
    }
    return RFB_CLIENT_ACCEPT;
}

void vnc_rfb_connect(struct vnc *v, int fd)
{
    unsigned before = v->rfb->made;
    v->rfb->f.new_client(v->rfb->screen, fd);
    if (v->rfb->made == before) { /* not even made: it closed the socket and told nobody */
        vnc_client_gone(v, fd);
    }
    vnc_rfb_work(v);
}

/* The password, if there is one now; zeros behind it. */
static bool password_now(struct vnc *v, char password[VNC_PASSWORD_MAX + 1])
{
    const struct vnc_rfb *r = v->rfb;
    pthread_mutex_lock(&v->events_lock);
    bool good = *r->password && time(NULL) < r->expires;
    memcpy(password, r->password, VNC_PASSWORD_MAX + 1);
    pthread_mutex_unlock(&v->events_lock);
    return good;
}

/* VNC authentication, RFC 6143 7.2.2; the library has made the challenge. */
static rfbBool hook_password(rfbClientPtr cl, const char *answer, int len)
{
    struct vnc *v = vnc_of(cl);
    char password[VNC_PASSWORD_MAX + 1];
    uint8_t want[CHALLENGESIZE], differ = 0;
    if (!password_now(v, password) || len != CHALLENGESIZE) {
        return FALSE;
    }
    memcpy(want, cl->authChallenge, sizeof(want));
    v->rfb->f.encrypt(want, password);
    for (int i = 0; i < len; i++) {
        differ |= want[i] ^ (uint8_t)answer[i];
    }
    return !differ;
}

void vnc_rfb_password(struct vnc *v, const char *password)
{
    memset(v->rfb->password, 0, sizeof(v->rfb->password));
    memcpy(v->rfb->password, password ? password : "", password ? strlen(password) : 0);
}

bool vnc_rfb_asks_password(const struct vnc *v)
{
    return v->rfb->screen->passwordCheck == hook_password;
}

void vnc_rfb_expire(struct vnc *v, int64_t when)
{
    v->rfb->expires = when;
}

void vnc_rfb_work(struct vnc *v)
{
    v->rfb->f.process(v->rfb->screen, 0);
}

/* ---- The picture ---- */

static void set_format(rfbScreenInfoPtr s)
{
    s->serverFormat.redShift = 16;
    s->serverFormat.greenShift = 8;
    s->serverFormat.blueShift = 0;
}

bool vnc_rfb_resize(struct vnc *v, unsigned width, unsigned height)
{
    struct vnc_rfb *r = v->rfb;
    rfbScreenInfoPtr s = r->screen;
    uint32_t *pixels = calloc((size_t)width * height, sizeof(*pixels));
    if (!pixels) {
        return false;
    }
    r->f.new_framebuffer(s, (char *)pixels, (int)width, (int)height, 8, 3, 4);
    set_format(s); /* the call above has set its own */
    for (rfbClientPtr cl = s->clientHead; cl; cl = cl->next) {
        s->setTranslateFunction(cl);
    }
    free(r->pixels);
    r->pixels = pixels;
    return true;
}

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

void vnc_rfb_copy(struct vnc *v, const struct surface *s, const struct rect *rect)
{
    struct vnc_rfb *r = v->rfb;
    unsigned width = smaller((unsigned)r->screen->width, s->width);
    unsigned height = smaller((unsigned)r->screen->height, s->height);
    unsigned right = smaller(rect->x + rect->width, width);
    unsigned end = smaller(rect->y + rect->height, height);
    if (rect->x >= right || rect->y >= end) {
        return;
    }
    for (unsigned y = rect->y; y < end; y++) {
        memcpy(r->pixels + (size_t)y * (unsigned)r->screen->width + rect->x,
               s->pixels + y * s->stride + rect->x, (right - rect->x) * sizeof(*r->pixels));
    }
    r->f.modified(r->screen, (int)rect->x, (int)rect->y, (int)right, (int)end);
}

/* ---- Life ---- */

static int rfb_load(struct vnc_rfb *r, struct err *err)
{
    r->library = dlopen("libvncserver.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!r->library) {
        return err_set(err, ENOTSUP, "-vnc needs the library vncserver (Debian: libvncserver1): %s",
                       dlerror());
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        void *at = dlsym(r->library, names[i].name);
        if (!at) {
            return err_set(err, ENOTSUP, "-vnc: the library vncserver has no %s", names[i].name);
        }
        memcpy((char *)&r->f + names[i].off, &at, sizeof(at));
    }
    r->f.log(FALSE);
    return 0;
}

static int rfb_options(struct vnc_rfb *r, const struct keyval *options, struct err *err)
{
    const char *share = keyval_get(options, "share"), *password = keyval_get(options, "password");
    bool on = false;
    if (share && strcmp(share, "allow-exclusive") && strcmp(share, "force-shared") &&
        strcmp(share, "ignore")) {
        return err_set(err, EINVAL,
                       "-vnc: share=%s is none of allow-exclusive, force-shared, ignore", share);
    }
    r->screen->neverShared = FALSE;
    r->screen->alwaysShared = share && strcmp(share, "allow-exclusive");
    int ret = password ? value_bool("-vnc: password", password, &on, err) : 0;
    if (on) {
        r->screen->authPasswdData = r->password; /* not NULL: a password is asked for */
        r->screen->passwordCheck = hook_password;
    }
    return ret;
}

static void rfb_extend(struct vnc_rfb *r)
{
    r->key_encodings[0] = EXTENDED_KEY;
    r->keys.pseudoEncodings = r->key_encodings;
    r->keys.enablePseudoEncoding = keys_enable;
    r->keys.handleMessage = keys_message;
    r->f.extend(&r->keys);
}

static int rfb_screen(struct vnc *v, const char *name, struct err *err)
{
    struct vnc_rfb *r = v->rfb;
    int argc = 0;
    r->pixels = alloc_array((size_t)FIRST_WIDTH * FIRST_HEIGHT, sizeof(*r->pixels));
    r->screen = r->f.get_screen(&argc, NULL, FIRST_WIDTH, FIRST_HEIGHT, 8, 3, 4);
    if (!r->screen) {
        return err_set(err, ENOMEM, "-vnc: the library vncserver does not start");
    }
    r->name = name ? alloc_printf("Lodge (%s)", name) : alloc_text("Lodge");
    rfbScreenInfoPtr s = r->screen;
    set_format(s);
    s->frameBuffer = (char *)r->pixels;
    s->desktopName = r->name;
    s->screenData = v;
    s->cursor = NULL; /* the guest draws its own */
    s->deferUpdateTime = 0;
    s->maxClientWait = CLIENT_WAIT_MS;
    s->kbdAddEvent = hook_key;
    s->ptrAddEvent = hook_pointer;
    s->setDesktopSizeHook = hook_size;
    s->newClientHook = hook_new;
    s->permitFileTransfer = FALSE;
    s->handleEventsEagerly = TRUE;
    return 0;
}

int vnc_rfb_new(struct vnc *v, const char *name, const struct keyval *options, struct err *err)
{
    struct vnc_rfb *r = v->rfb = alloc_zero(sizeof(*r));
    r->expires = INT64_MAX;
    int ret = rfb_load(r, err);
    ret = ret ? ret : rfb_screen(v, name, err);
    if (!ret) {
        rfb_extend(r);
        ret = rfb_options(r, options, err);
    }
    return ret;
}

void vnc_rfb_free(struct vnc *v)
{
    struct vnc_rfb *r = v->rfb;
    if (!r) {
        return;
    }
    if (r->screen) {
        r->f.shut_down(r->screen, TRUE);
        r->f.no_extend(&r->keys);
        r->f.cleanup(r->screen);
    }
    if (r->library) {
        dlclose(r->library);
    }
    free(r->pixels);
    free(r->name);
    free(r);
    v->rfb = NULL;
}
