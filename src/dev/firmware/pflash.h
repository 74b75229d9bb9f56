/* Parallel flash memory with firmware or its variables, kept in an image. */
#ifndef DEV_FIRMWARE_PFLASH_H
#define DEV_FIRMWARE_PFLASH_H

#include "core/device.h"
#include "core/mem.h"

struct ram;

/* Made by boards: properties "drive" (a backend's name) and "end" (the address behind it). */
extern const struct dev_type pflash_type;

struct ram *pflash_ram(const struct dev *pflash);

#endif
