/* The list of drivers. A new one is a line in types.h, one here and one in meson.build. */
#include "block/types.h"

#include <string.h>

#include "base/alloc.h"
#include "block/file.h"
#include "block/qcow2/qcow2.h"

const struct block_type *const block_types[] = {
    &fault_type, &log_writes_type,  &copy_on_read_type,
    &file_type,  &host_device_type, BLOCK_HTTP_TYPES &luks_type,
    &nbd_type,   &qcow2_type,       &qed_type,
    &raw_type,   &throttle_type,    &vdi_type,
    &vhdx_type,  &vmdk_type,        &vpc_type,
    NULL,
};

const struct block_type *block_type_find(const char *name)
{
    for (size_t i = 0; block_types[i]; i++) {
        if (!strcmp(block_types[i]->name, name)) {
            return block_types[i];
        }
    }
    return NULL;
}

bool block_format_exists(const char *format)
{
    return block_type_find(format);
}

const struct block_opt *block_create_opts(const char *format)
{
    const struct block_type *t = block_type_find(format);
    return t ? t->create_opts : NULL;
}

const struct block_opt *block_amend_opts(const char *format)
{
    const struct block_type *t = block_type_find(format);
    return t ? t->amend_opts : NULL;
}

const char **block_format_names(void)
{
    size_t n = sizeof(block_types) / sizeof(*block_types);
    const char **names = alloc_array(n, sizeof(*names));
    for (size_t i = 0; block_types[i]; i++) {
        names[i] = block_types[i]->name;
    }
    return names;
}
