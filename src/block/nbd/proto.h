/* Numbers of the NBD protocol ("The NBD protocol", doc/proto.md of its project; docs/specs.md:
 * nbd). All big-endian. */
#ifndef BLOCK_NBD_PROTO_H
#define BLOCK_NBD_PROTO_H

#include <stdint.h>

#define NBD_MAGIC 0x4e42444d41474943ULL     /* "NBDMAGIC" */
#define NBD_OPT_MAGIC 0x49484156454f5054ULL /* "IHAVEOPT" */
#define NBD_OLD_MAGIC 0x00420281861253ULL
#define NBD_REP_MAGIC 0x0003e889045565a9ULL
#define NBD_DEFAULT_PORT "10809"

#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_MAGIC 0x67446698u
#define NBD_CHUNK_MAGIC 0x668e33efu

enum { NBD_FLAG_FIXED = 1, NBD_FLAG_NO_ZEROES = 2 }; /* of the handshake */

enum nbd_opt {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED = 8,
    NBD_OPT_LIST_META = 9,
    NBD_OPT_SET_META = 10,
};

#define NBD_REP_ERR(n) (1u << 31 | (n))
enum nbd_rep {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
    NBD_REP_META = 4,
};
#define NBD_REP_ERR_UNSUP NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID NBD_REP_ERR(3)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERR(6)
#define NBD_REP_ERR_BLOCK_SIZE NBD_REP_ERR(8)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERR(9)

enum nbd_info { NBD_INFO_EXPORT, NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE };

enum nbd_export_flags { /* of an export */
                        NBD_HAS_FLAGS = 1 << 0,
                        NBD_READ_ONLY = 1 << 1,
                        NBD_SEND_FLUSH = 1 << 2,
                        NBD_SEND_FUA = 1 << 3,
                        NBD_SEND_TRIM = 1 << 5,
                        NBD_SEND_ZEROES = 1 << 6,
                        NBD_SEND_DF = 1 << 7,
                        NBD_MULTI_CONN = 1 << 8,
                        NBD_SEND_CACHE = 1 << 10,
                        NBD_SEND_FAST_ZERO = 1 << 11,
};

enum nbd_cmd {
    NBD_CMD_READ,
    NBD_CMD_WRITE,
    NBD_CMD_DISC,
    NBD_CMD_FLUSH,
    NBD_CMD_TRIM,
    NBD_CMD_CACHE,
    NBD_CMD_ZEROES,
    NBD_CMD_STATUS,
};

enum nbd_cmd_flags {
    NBD_FUA = 1 << 0,
    NBD_NO_HOLE = 1 << 1,
    NBD_DF = 1 << 2,
    NBD_REQ_ONE = 1 << 3,
    NBD_FAST_ZERO = 1 << 4,
};

enum nbd_chunk {
    NBD_CHUNK_NONE = 0,
    NBD_CHUNK_DATA = 1,
    NBD_CHUNK_HOLE = 2,
    NBD_CHUNK_STATUS = 5,
    NBD_CHUNK_ERROR = 1 << 15 | 1,
    NBD_CHUNK_ERROR_OFFSET = 1 << 15 | 2,
};
enum { NBD_CHUNK_DONE = 1, NBD_CHUNK_IS_ERROR = 1 << 15 };

enum { NBD_STATE_HOLE = 1, NBD_STATE_ZERO = 2, NBD_STATE_DIRTY = 1 };

enum {
    NBD_MAX_NAME = 4096,       /* bytes of a name */
    NBD_MAX_OPTION = 64 << 10, /* bytes of an option's data that we listen to */
    NBD_MAX_PAYLOAD = 32 << 20,
};

#define NBD_META_ALLOCATION "base:allocation"
#define NBD_META_DEPTH "qemu:allocation-depth"
#define NBD_META_BITMAP "qemu:dirty-bitmap:"

/* Error numbers on the wire, which are Linux's. */
int nbd_error_from_wire(uint32_t e); /* -errno */
uint32_t nbd_error_to_wire(int err); /* of errno or -errno */

#endif
