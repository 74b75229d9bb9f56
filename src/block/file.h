/* The host's files and block devices. */
#ifndef BLOCK_FILE_H
#define BLOCK_FILE_H

struct block_type;

extern const struct block_type file_type, host_device_type;

#endif
