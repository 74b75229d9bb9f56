/* What copying between files asks of the file driver. */
#ifndef BLOCK_FILE_H
#define BLOCK_FILE_H

struct block;

extern const struct block_type file_type, host_device_type;

int file_fd(struct block *b); /* of a node of these two types */

#endif
