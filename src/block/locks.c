/*
 * Telling other processes how a file is used: locks on single bytes, as QEMU takes them (seen in
 * its system calls). Byte 100 + n locked: the holder does what bit n says; byte 200 + n: it does
 * not let others do that. All locks are shared ones; whoever wants to do n asks whether anybody
 * holds byte 200 + n, and for what it forbids whether anybody holds 100 + n. The locks belong to
 * the open file, so they end with it, whatever happens to the process: not before its last write is
 * done, which io_uring makes some milliseconds after the process has ended. A conflict is looked at
 * again for that long, so that a guest can be started again as soon as it is seen to be dead.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/err.h"
#include "block/core.h"
#include "loop/co.h"

enum { USE_READ, USE_WRITE, USE_WRITE_UNCHANGED, USE_RESIZE, USES };
enum { BYTE_DOES = 100, BYTE_FORBIDS = 200 };
enum { LOCK_TRIES = 20, LOCK_PAUSE_NS = 10000000 };

static int lock_byte(int fd, int byte, bool on)
{
    struct flock l = {
        .l_type = on ? F_RDLCK : F_UNLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

static bool byte_is_locked(int fd, int byte)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return !fcntl(fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
}

static void lock_drop(int fd)
{
    for (int n = 0; n < USES; n++) {
        lock_byte(fd, BYTE_DOES + n, false);
        lock_byte(fd, BYTE_FORBIDS + n, false);
    }
}

static int lock_take(int fd, unsigned does, unsigned forbids)
{
    int ret = 0;
    for (int n = 0; !ret && n < USES; n++) {
        ret = does >> n & 1 ? lock_byte(fd, BYTE_DOES + n, true) : 0;
        ret = !ret && forbids >> n & 1 ? lock_byte(fd, BYTE_FORBIDS + n, true) : ret;
    }
    return ret;
}

/* The use that somebody else's stands against, or -1; *theirs: they do it, not forbid it. */
static int lock_conflict(int fd, unsigned does, unsigned forbids, bool *theirs)
{
    for (int n = 0; n < USES; n++) {
        if (does >> n & 1 && byte_is_locked(fd, BYTE_FORBIDS + n)) {
            *theirs = false;
            return n;
        }
        if (forbids >> n & 1 && byte_is_locked(fd, BYTE_DOES + n)) {
            *theirs = true;
            return n;
        }
    }
    return -1;
}

int file_lock(int fd, unsigned flags, bool shares_write, const char *name, struct err *err)
{
    static const char *const uses[] = {"consistent read", "write", "write unchanged", "resize"};
    unsigned does = flags & BLOCK_NO_IO ? 0 : 1u << USE_READ, forbids = 0;
    does |= flags & BLOCK_RDWR ? 1u << USE_WRITE : 0;
    does |= flags & BLOCK_RDWR && flags & BLOCK_RESIZE ? 1u << USE_RESIZE : 0;
    forbids |= shares_write ? 0 : 1u << USE_WRITE | 1u << USE_RESIZE;
    if (flags & BLOCK_FORCE_SHARE) {
        return 0;
    }
    bool theirs = false;
    int n = -1;
    for (int i = 0; i < LOCK_TRIES; i++) {
        int ret = lock_take(fd, does, forbids);
        n = ret ? -1 : lock_conflict(fd, does, forbids, &theirs);
        if (n < 0) {
            break;
        }
        lock_drop(fd); /* two that wait for each other would both give up */
        co_sleep_ns(LOCK_PAUSE_NS);
    }
    if (n >= 0) {
        return err_set(err, EAGAIN,
                       "cannot open '%s': another process %s (Failed to get %s\"%s\" lock). Is "
                       "another process using the image [%s]?",
                       name, theirs ? "has it open for that" : "does not share it",
                       theirs ? "shared " : "", uses[n], name);
    }
    return 0; /* a file system without locks: as if there were nobody */
}
