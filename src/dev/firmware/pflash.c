/*
 * CFI flash with the Intel command set (JEDEC JEP137: 0001h), 8 bits wide, blocks of 4 KiB: single
 * bytes, buffers of 32 bytes, block erase. In the array mode it is memory, else its registers are
 * read. Changes go to the image as they come; a write of the guest does not wait for them. Does not
 * do: block locking, suspend, times of its own (everything is done at once).
 */
#include "dev/firmware/pflash.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/storage/disk.h"
#include "state/field.h"

enum {
    BLOCK_SIZE = 4096,
    BUFFER_SIZE = 32,
    MAX_SIZE = 8 << 20,
    STATUS_READY = 0x80,
    STATUS_ERROR = 0x30, /* wrong sequence of commands */
    CMD_PROGRAM = 0x40,
    CMD_PROGRAM_OLD = 0x10,
    CMD_ERASE = 0x20,
    CMD_CLEAR_STATUS = 0x50,
    CMD_LOCK = 0x60,
    CMD_READ_STATUS = 0x70,
    CMD_READ_ID = 0x90,
    CMD_QUERY = 0x98,
    CMD_CONFIRM = 0xd0,
    CMD_BUFFER = 0xe8,
    CMD_READ_ARRAY = 0xff,
};

struct pflash {
    struct dev dev;
    char *drive_id;
    uint64_t end;
    struct disk disk;
    struct disk_job job;
    struct ram *ram;
    struct mem_node *registers; /* over the array, while it is not in the array mode */
    pthread_mutex_t lock;       /* all below */
    bool secure;                /* only system management mode writes */
    bool ready, saving;
    uint8_t command; /* 0: array mode */
    unsigned step;   /* of commands with several writes */
    uint8_t status;
    unsigned buffer_len, buffer_at;
    uint64_t buffer_off;
    uint8_t buffer[BUFFER_SIZE];
    uint64_t dirty_from, dirty_to; /* bytes the image has not; equal: none */
    int read_error;
    pthread_cond_t loaded;
    bool is_loaded;
};

/* ---- The image ---- */

/* Takes the bytes to write, or ends the job. */
static uint8_t *save_take(struct pflash *p, uint64_t *from, uint64_t *len)
{
    AUTO_LOCK(&p->lock);
    *from = p->dirty_from;
    *len = p->dirty_to - p->dirty_from;
    p->dirty_from = p->dirty_to = 0;
    p->saving = *len != 0;
    if (!*len) {
        return NULL;
    }
    uint8_t *copy = alloc_zero(*len);
    memcpy(copy, p->ram->host + *from, *len);
    return copy;
}

static void save_run(void *opaque)
{
    struct pflash *p = opaque;
    uint64_t from, len;
    for (uint8_t *bytes; (bytes = save_take(p, &from, &len)); free(bytes)) {
        int ret = disk_write(&p->disk, from, bytes, (uint32_t)len, 0);
        ret = ret ? ret : disk_io(&p->disk, DISK_FLUSH, 0, 0, NULL, 0);
        if (ret) {
            log_guest(&p->dev.rate, "pflash", "'%s' cannot be written: %s\n", p->drive_id,
                      strerror(-ret));
        }
    }
}

/* The lock is held. */
static void flash_changed(struct pflash *p, uint64_t off, uint64_t len)
{
    struct gmem_span span = {.ram = p->ram, .off = off, .len = len};
    bool none = p->dirty_from == p->dirty_to;
    gmem_wrote(&span);
    p->dirty_from = none || off < p->dirty_from ? off : p->dirty_from;
    p->dirty_to = none || off + len > p->dirty_to ? off + len : p->dirty_to;
    if (!p->saving) {
        p->saving = true;
        disk_start(&p->disk, &p->job, save_run, p);
    }
}

/* ---- Commands; the lock is held ---- */

/* Bits only go from 1 to 0. */
static void flash_program(struct pflash *p, uint64_t off, const uint8_t *bytes, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        p->ram->host[off + i] &= bytes[i];
    }
    flash_changed(p, off, len);
    p->status |= STATUS_READY;
}

static void flash_erase(struct pflash *p, uint64_t off)
{
    off &= ~(uint64_t)(BLOCK_SIZE - 1);
    memset(p->ram->host + off, 0xff, BLOCK_SIZE);
    flash_changed(p, off, BLOCK_SIZE);
    p->status |= STATUS_READY;
}

static void flash_set_mode(struct pflash *p, uint8_t command)
{
    bool was = p->command != 0;
    p->command = command;
    p->step = 0;
    if (was != (command != 0)) {
        mem_node_enable(p->registers, command != 0);
    }
}

/* Count less one, the bytes, confirmation. */
static void flash_buffer(struct pflash *p, uint64_t off, uint8_t val)
{
    if (!p->step) {
        p->buffer_len = val + 1u;
        p->buffer_at = 0;
        p->step = 1;
        if (p->buffer_len > BUFFER_SIZE) {
            p->status |= STATUS_ERROR;
            flash_set_mode(p, CMD_READ_STATUS);
        }
        return;
    }
    if (p->buffer_at < p->buffer_len) {
        p->buffer_off = p->buffer_at ? p->buffer_off : off;
        p->buffer[p->buffer_at++] = val;
        return;
    }
    if (val == CMD_CONFIRM && p->buffer_len <= p->ram->size - p->buffer_off) {
        flash_program(p, p->buffer_off, p->buffer, p->buffer_len);
    } else {
        p->status |= STATUS_ERROR;
    }
    flash_set_mode(p, CMD_READ_STATUS);
}

static void flash_command(struct pflash *p, uint8_t val)
{
    switch (val) {
    case CMD_CLEAR_STATUS:
        p->status = 0;
        flash_set_mode(p, 0);
        break;
    case CMD_BUFFER: p->status |= STATUS_READY; /* fall through */
    case CMD_PROGRAM:
    case CMD_PROGRAM_OLD:
    case CMD_ERASE:
    case CMD_LOCK:
    case CMD_READ_STATUS:
    case CMD_READ_ID:
    case CMD_QUERY: flash_set_mode(p, val); break;
    default: flash_set_mode(p, 0); break; /* the array, also for what there is not */
    }
}

static void flash_write_byte(struct pflash *p, uint64_t off, uint8_t val)
{
    switch (p->command) {
    case CMD_PROGRAM:
    case CMD_PROGRAM_OLD:
        flash_program(p, off, &val, 1);
        flash_set_mode(p, CMD_READ_STATUS);
        break;
    case CMD_ERASE:
        if (val == CMD_CONFIRM) {
            flash_erase(p, off);
        } else {
            p->status |= STATUS_ERROR;
        }
        flash_set_mode(p, CMD_READ_STATUS);
        break;
    case CMD_LOCK:
        p->status |= STATUS_READY;
        flash_set_mode(p, CMD_READ_STATUS);
        break;
    case CMD_BUFFER: flash_buffer(p, off, val); break;
    default: flash_command(p, val);
    }
}

/* JEDEC JESD68: the query structure, a byte at each address. */
static uint8_t flash_query(const struct pflash *p, uint64_t off)
{
    uint64_t blocks = p->ram->size / BLOCK_SIZE;
    const uint8_t table[] = {'Q',
                             'R',
                             'Y',
                             1,
                             0,
                             0x31,
                             0,
                             0,
                             0,
                             0,
                             0, /* command set, address of its table */
                             0x45,
                             0x55,
                             0,
                             0, /* voltages */
                             7,
                             7,
                             10,
                             0,
                             4,
                             4,
                             4,
                             0, /* times */
                             (uint8_t)__builtin_ctzll(p->ram->size),
                             2,
                             0,
                             5,
                             0, /* size, interface, buffer */
                             1,
                             (blocks - 1) & 0xff,
                             (blocks - 1) >> 8 & 0xff,
                             BLOCK_SIZE >> 8 & 0xff,
                             BLOCK_SIZE >> 16};
    return off >= 0x10 && off - 0x10 < sizeof(table) ? table[off - 0x10] : 0;
}

static uint8_t flash_read_register(const struct pflash *p, uint64_t off)
{
    switch (p->command) {
    case CMD_READ_ID: return (off & 0xff) == 0 ? 0x89 : (off & 0xff) == 1 ? 0x18 : 0;
    case CMD_QUERY: return flash_query(p, off);
    default: return p->status;
    }
}

static enum mem_result flash_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct pflash *p = opaque;
    AUTO_LOCK(&p->lock);
    *val = 0;
    for (unsigned i = 0; i < size; i++) {
        *val |= (uint64_t)flash_read_register(p, off + i) << 8 * i;
    }
    return MEM_OK;
}

static enum mem_result flash_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct pflash *p = opaque;
    if (p->secure && !machine_in_smm(p->dev.machine)) {
        return MEM_OK; /* nobody listens */
    }
    AUTO_LOCK(&p->lock);
    for (unsigned i = 0; i < size; i++) {
        flash_write_byte(p, off + i, val >> 8 * i & 0xff);
    }
    return MEM_OK;
}

static const struct mmio flash_ops = {flash_read, flash_write, 1, 4};

/* ---- Life ---- */

static void load_run(void *opaque)
{
    struct pflash *p = opaque;
    int ret = disk_read(&p->disk, 0, p->ram->host, (uint32_t)p->ram->size);
    AUTO_LOCK(&p->lock);
    p->read_error = ret;
    p->is_loaded = true;
    pthread_cond_signal(&p->loaded);
}

static int flash_load(struct pflash *p, struct err *err)
{
    AUTO_LOCK(&p->lock);
    disk_start(&p->disk, &p->job, load_run, p);
    while (!p->is_loaded) {
        pthread_cond_wait(&p->loaded, &p->lock);
    }
    return p->read_error ? err_set(err, -p->read_error, "pflash '%s' cannot be read: %s",
                                   p->drive_id, strerror(-p->read_error))
                         : 0;
}

static void flash_map(struct pflash *p)
{
    struct mem_map *mem = p->dev.machine->mem;
    uint64_t size = p->ram->size, at = p->end - size;
    mem_map_begin(mem);
    if (disk_readonly(&p->disk)) {
        mem_map_add_rom(mem, at, p->ram, 0, size);
    } else {
        mem_map_add_flash(mem, at, p->ram, 0, size, &flash_ops, p);
    }
    p->registers = mem_map_add_mmio(mem, at, size, &flash_ops, p);
    mem_node_enable(p->registers, false);
    mem_map_commit(mem);
}

static int flash_init(struct dev *dev, struct err *err)
{
    struct pflash *p = container_of(dev, struct pflash, dev);
    const struct disk_opts opts = {.owner = "pflash", .drive = p->drive_id};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->loaded, NULL);
    disk_init(&p->disk, dev, NULL);
    p->ready = true;
    int ret = disk_take(&p->disk, &opts, err);
    if (ret) {
        return ret;
    }
    uint64_t size = disk_size(&p->disk);
    if (!size || size % BLOCK_SIZE || size > MAX_SIZE || size > p->end) {
        return err_set(err, EINVAL,
                       "pflash '%s' has %llu bytes: flash has whole blocks of 4 KiB, at most 8 MiB",
                       p->drive_id, (unsigned long long)size);
    }
    p->ram = ram_set_add(&dev->machine->ram, "pflash", size, err);
    ret = p->ram ? flash_load(p, err) : -ENOMEM;
    if (!ret) {
        flash_map(p);
    }
    return ret;
}

static void flash_reset(struct dev *dev, enum dev_reset how)
{
    struct pflash *p = container_of(dev, struct pflash, dev);
    AUTO_LOCK(&p->lock);
    p->status = 0;
    flash_set_mode(p, 0);
}

static void flash_quiesce(struct dev *dev)
{
    disk_quiesce(&container_of(dev, struct pflash, dev)->disk);
}

static void flash_resume(struct dev *dev)
{
    disk_resume(&container_of(dev, struct pflash, dev)->disk);
}

static void flash_fini(struct dev *dev)
{
    struct pflash *p = container_of(dev, struct pflash, dev);
    if (p->ready) {
        disk_fini(&p->disk);
        pthread_cond_destroy(&p->loaded);
        pthread_mutex_destroy(&p->lock);
    }
}

struct ram *pflash_ram(const struct dev *pflash)
{
    return container_of(pflash, struct pflash, dev)->ram;
}

static const struct prop flash_props[] = {
    {"drive", PROP_TEXT, offsetof(struct pflash, drive_id), NULL, "id of the -drive"},
    {"secure", PROP_BOOL, offsetof(struct pflash, secure), "off",
     "written only in system management mode"},
    {"end", PROP_U64, offsetof(struct pflash, end), "0x100000000", "the address behind it"},
    {0},
};

/* ---- State ---- */

static const struct field pflash_list[] = {
    FIELD(struct pflash, dev, FIELD_HOST),
    FIELD(struct pflash, drive_id, FIELD_HOST),
    FIELD(struct pflash, end, FIELD_CONFIG),
    FIELD(struct pflash, disk, FIELD_HOST),
    FIELD(struct pflash, job, FIELD_HOST),
    FIELD(struct pflash, ram, FIELD_HOST),
    FIELD(struct pflash, registers, FIELD_HOST),
    FIELD(struct pflash, lock, FIELD_HOST),
    FIELD(struct pflash, secure, FIELD_CONFIG),
    FIELD(struct pflash, ready, FIELD_HOST),
    FIELD(struct pflash, saving, FIELD_HOST),
    FIELD(struct pflash, command, FIELD_GUEST),
    FIELD(struct pflash, step, FIELD_GUEST, .max = 1),
    FIELD(struct pflash, status, FIELD_GUEST),
    FIELD(struct pflash, buffer_len, FIELD_GUEST, .max = BUFFER_SIZE),
    FIELD(struct pflash, buffer_at, FIELD_GUEST, .max = BUFFER_SIZE),
    FIELD(struct pflash, buffer_off, FIELD_GUEST),
    FIELD_ARRAY(struct pflash, buffer, FIELD_GUEST),
    FIELD(struct pflash, dirty_from, FIELD_HOST),
    FIELD(struct pflash, dirty_to, FIELD_HOST),
    FIELD(struct pflash, read_error, FIELD_HOST),
    FIELD(struct pflash, loaded, FIELD_HOST),
    FIELD(struct pflash, is_loaded, FIELD_HOST),
};

/* The array comes with the guest's memory, and the image has it already. */
static int flash_loaded(void *obj, struct err *err)
{
    struct pflash *p = obj;
    AUTO_LOCK(&p->lock);
    if (p->buffer_at > p->buffer_len || p->buffer_off >= p->ram->size) {
        return err_set(err, EINVAL, "state of pflash: what it buffers is outside");
    }
    mem_node_enable(p->registers, p->command != 0);
    return 0;
}

FIELD_SET(pflash_fields, "pflash", struct pflash, pflash_list, 1, .loaded = flash_loaded);

const struct dev_type pflash_type = {
    .name = "cfi.pflash01",
    .summary = "flash memory with firmware",
    .spec = "JEP137",
    .size = sizeof(struct pflash),
    .state = &pflash_fields,
    .props = flash_props,
    .init = flash_init,
    .reset = flash_reset,
    .quiesce = flash_quiesce,
    .resume = flash_resume,
    .fini = flash_fini,
};
