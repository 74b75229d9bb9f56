/* The order of booting by devices' bootindex. */
#ifndef VMM_BOOT_ORDER_H
#define VMM_BOOT_ORDER_H

struct err;
struct machine;

/* Fills in config.boot_order_devices; all devices are there. */
int boot_order_set(struct machine *m, struct err *err);

#endif
